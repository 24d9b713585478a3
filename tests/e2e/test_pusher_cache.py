"""The last event of cache channels: for those who come later, at any node, and after a restart."""

from pathlib import Path
from typing import Any

import pytest
from tests.conftest import CLUSTER, SQLITE
from tests.pusher_calls import done
from tests.pusher_client import line

EVERYWHERE = pytest.mark.nodes(1, 3, CLUSTER, SQLITE)
PREFIXES = ["", "private-", "private-encrypted-", "presence-"]


def send(server: Any, channel: str, data: str) -> dict[str, str]:
    """Trigger an event, and return its frame."""
    done(server, "POST", "/events", {"name": "created", "channel": channel, "data": data})
    return {"event": "created", "channel": channel, "data": data}


def after_joining(server: Any, channel: str) -> Any:
    """Return the frame that a new client is sent after it has joined."""
    with line(server) as client:
        client.joins(channel, *(["ann"] if channel.startswith("presence-") else []))
        frame = client.next()
        assert client.nothing_more()
    return frame


@EVERYWHERE
@pytest.mark.parametrize("prefix", PREFIXES)
def test_the_last_event_is_sent_to_who_comes_later(server: Any, prefix: str) -> None:
    """Once, and not that of another channel; a miss before the first one."""
    channel = f"{prefix}cache-pca1"
    miss = {"event": "pusher:cache_miss", "channel": channel, "data": "{}"}
    assert after_joining(server, channel) == miss
    send(server, channel, '{ "n": 1 }')
    last = send(server, channel, '{ "n": 2 }')
    send(server, f"{channel}-other", "")
    assert [after_joining(server, channel) for _ in range(3)] == [last] * 3
    assert done(server, "GET", f"/channels/{channel}", info="cache")["cache"]["data"] == '{ "n": 2 }'


@EVERYWHERE
def test_a_client_sends_no_last_event(server: Any) -> None:
    """Only servers do; and who is there gets each event once."""
    channel = "private-cache-pca2"
    with line(server) as sender, line(server) as other:
        for client in (sender, other):
            client.joins(channel)
            assert client.next()["event"] == "pusher:cache_miss"
        last = send(server, channel, "1")
        assert (sender.next(), other.next()) == (last, last)
        sender.sends("client-moved", 2, channel=channel)
        assert other.next() == {"event": "client-moved", "channel": channel, "data": 2}
        assert other.nothing_more()
    assert after_joining(server, channel) == last


def test_a_restart_keeps_the_last_event(start_server: Any, tmp_path: Path) -> None:
    """Where the engine keeps anything; for as long as before."""
    flags = ("--engine", f"sqlite:///{tmp_path / 'log.db'}")
    first = start_server(*flags)
    last = send(first, "cache-pca3", '"last"')
    ttl = done(first, "GET", "/channels/cache-pca3", info="cache")["cache"]["ttl"]
    assert first.stop()[0] == 0
    second = start_server(*flags)
    assert after_joining(second, "cache-pca3") == last
    kept = done(second, "GET", "/channels/cache-pca3", info="cache")["cache"]
    assert (kept["data"], 0 < kept["ttl"] <= ttl) == ('"last"', True)
