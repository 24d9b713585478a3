"""Clients that vanish: no FIN, no RST, every packet is dropped."""

from collections.abc import Iterator
from typing import Any

import pytest
from tests.namespace import Line, why_not
from tests.nursery import Nursery

USERS = ("ws", "sse", "poll")
QUICK = (
    *("--heartbeat-interval-s", "0.2", "--ping-interval-s", "0.4", "--detach-grace-s", "0.2"),
    *("--poll-timeout-s", "0.4", "--poll-gap-s", "0.4", "--host", "0.0.0.0"),
    *("--pusher-secret", "not a public one"),
)

BEATS = 40
"""Within so many heartbeats all have left: two ping intervals, the grace, and much to spare."""


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    """A line at whose one end servers are started."""
    if reason := why_not():
        pytest.skip(reason)
    made = Line()
    with made.among_servers():
        servers = Nursery()
        monkeypatch.setattr("tests.conftest.nursery", lambda: servers)
        yield made
    servers.close()
    made.close()


def test_vanished_clients_are_dropped(line: Line, own_server: Any, clients: Any) -> None:
    """Whatever the transport, a client that vanishes is dropped, and its user has left, in bounded time."""
    server = own_server(*QUICK)
    bob = server.connect("bob", "news", channel_configs={"news": {"notify_presence": True}})
    member = clients.sse(server.port, f"conn_id={bob}&since=")
    member.items()
    queries = {user: f"conn_id={server.connect(user, 'news')}&since=" for user in USERS}
    with line.among_clients():
        clients.ws(server.port, queries["ws"], host=line.servers_host).items()
        sse = clients.sse(server.port, queries["sse"], host=line.servers_host)
        sse.items()
        poll = clients.raw(server.port, host=line.servers_host)
    poll.send(f"GET /listen?{queries['poll']} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
    poll.until(b"\r\n\r\n")
    line.cut()
    received: list[tuple[str, str]] = []
    for _ in range(BEATS):
        _, items = member.block()
        received += [(item["user"], item["message"]["action"]) for item in items]
        if len(received) == 2 * len(USERS):
            break
    assert sorted(received) == sorted((user, action) for user in USERS for action in ("joined", "parted"))
