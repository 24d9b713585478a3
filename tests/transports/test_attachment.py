"""A connection's life across streams: moving, losing its socket, resuming, reading too slowly."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from tests.conftest import CLUSTER
from tests.http_client import http
from tests.transports.messages import publish, texts

pytestmark = pytest.mark.nodes(1, CLUSTER)

PRESENCE = {"notify_presence": True}
TRANSPORTS = ["ws", "sse", "poll"]


def next_items(server: Any, clients: Any, transport: str, query: str) -> list[Any]:
    """Attach by this transport and return the first items that come, with those a `resumed` item leads."""
    if transport == "poll":
        items: list[Any] = http.get(f"{server.url}/listen?{query}").json()
        return items
    stream = getattr(clients, transport)(server.port, query)
    items = stream.items()
    if (
        len(items) == 1
        and items[0]["type"] == "resumed"
        and items[0]["recovered"]
        and "&since=&" not in query
    ):
        items += stream.items()
    return items


def settled(server: Any) -> None:
    """Return when the server has read all that was sent to it before."""
    server.post("/info", {"info": {"channels": []}})


@pytest.fixture
def member(server: Any, clients: Any, channel: str) -> Any:
    """A member of the channel that receives presence."""
    conn_id = server.connect("bob", channel, channel_configs={channel: PRESENCE})
    stream = clients.ws(server.port, f"conn_id={conn_id}&since=")
    stream.items()
    return stream


@pytest.mark.parametrize("then", TRANSPORTS)
@pytest.mark.parametrize("first", ["ws", "sse"])
def test_a_connection_that_changes_its_transport_loses_nothing(
    server: Any, clients: Any, channel: str, member: Any, actions: Any, first: str, then: str
) -> None:
    """A connection that moves keeps its identity, loses nothing, and no presence is announced."""
    query = f"conn_id={server.connect('ann', channel)}"
    node = server.any
    stream = getattr(clients, first)(node.port, query)
    publish(server, channel, "one")
    assert texts(stream.items()) == ["one"]
    stream.reset()
    settled(node)
    publish(server, channel, "two", "three")
    items = next_items(server, clients, then, query)
    assert texts(items) == ["two", "three"]
    assert all(item["catchup"] for item in items)
    assert actions(member, server, channel) == ["ann joined"]


@pytest.mark.parametrize("transport", ["ws", "sse"])
def test_a_connection_that_does_not_reconnect_leaves_once(
    own_server: Any, clients: Any, actions: Any, transport: str
) -> None:
    """A connection that does not reconnect leaves exactly once, and its id is unknown."""
    server = own_server("--detach-grace-s", "0.3")
    bob = server.connect("bob", "news", channel_configs={"news": PRESENCE})
    member = clients.ws(server.port, f"conn_id={bob}&since=")
    member.items()
    conn_id = server.connect("ann", "news")
    stream = getattr(clients, transport)(server.port, f"conn_id={conn_id}&since=")
    stream.items()
    stream.reset()
    received = [item["message"]["action"] for item in member.several(2)]
    assert received == ["joined", "parted"]
    assert actions(member, server, "news") == []
    assert clients.ws(server.port, f"conn_id={conn_id}").close_code() == 4001


def stays(server: Any, clients: Any) -> Any:
    """Connect a permanent member; a slow machine may need several attempts to attach in time."""
    while True:
        bob = server.connect("bob", "news", channel_configs={"news": PRESENCE})
        member = clients.ws(server.port, f"conn_id={bob}&since=")
        with suppress(EOFError):
            if member.items()[0]["type"] == "resumed":
                return member


def test_a_connection_without_a_stream_leaves_after_its_time(own_server: Any, clients: Any) -> None:
    """A connection without any stream leaves after its timeout."""
    server = own_server("--unattached-timeout-s", "0.5")
    member = stays(server, clients)
    server.connect("ann", "news")
    assert [item["message"]["action"] for item in member.several(2)] == ["joined", "parted"]


def test_a_connection_without_polls_leaves_after_its_gap(own_server: Any, clients: Any) -> None:
    """A connection whose polls stop leaves after the longest gap between polls."""
    server = own_server("--poll-gap-s", "0.5", "--poll-timeout-s", "0.2")
    bob = server.connect("bob", "news", channel_configs={"news": PRESENCE})
    member = clients.ws(server.port, f"conn_id={bob}")
    conn_id = server.connect("ann", "news")
    assert http.get(f"{server.url}/listen?conn_id={conn_id}").json() == []
    assert [item["message"]["action"] for item in member.several(2)] == ["joined", "parted"]
    assert http.get(f"{server.url}/listen?conn_id={conn_id}").status_code == 401


def test_a_close_with_1000_leaves_at_once(
    server: Any, clients: Any, masked: Any, channel: str, member: Any
) -> None:
    """After a close with 1000 the user leaves long before the grace period of a lost socket is over."""
    conn_id = server.connect("ann", channel)
    stream = clients.ws(server.port, f"conn_id={conn_id}")
    stream.send(masked((1000).to_bytes(2, "big"), 0x88))
    assert [item["message"]["action"] for item in member.several(2)] == ["joined", "parted"]
    assert clients.ws(server.port, f"conn_id={conn_id}").close_code() == 4001


def test_a_close_with_1001_keeps_the_connection_for_its_grace(
    server: Any, clients: Any, masked: Any, channel: str, member: Any, actions: Any
) -> None:
    """A close with 1001 keeps the connection for its grace, as browsers say it when a page reloads."""
    query = f"conn_id={server.connect('ann', channel)}"
    stream = clients.ws(server.port, query)
    stream.send(masked((1001).to_bytes(2, "big"), 0x88))
    assert stream.close_code() == 1001
    publish(server, channel, "missed")
    assert texts(next_items(server, clients, "ws", query)) == ["missed"]
    assert actions(member, server, channel) == ["ann joined"]


def test_disconnect_leaves_at_once(
    server: Any, clients: Any, channel: str, member: Any, actions: Any
) -> None:
    """The user has left when `/disconnect` answers."""
    conn_id = server.connect("ann", channel)
    server.post("/disconnect", {"conn_id": conn_id})
    assert actions(member, server, channel) == ["ann joined", "ann parted"]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_resumed_stream_has_everything_after_its_position(
    server: Any, clients: Any, channel: str, transport: str
) -> None:
    """Everything after the position follows the resumed item, in order, and nothing twice."""
    query = f"conn_id={server.connect('ann', channel)}"
    position = next_items(server, clients, "poll", f"{query}&since=")[0]["position"]
    publish(server, channel, "one", "two")
    publish(server, channel, "three")
    resumed, *items = next_items(server, clients, transport, f"{query}&since={position}")
    assert (resumed["position"], resumed["recovered"], resumed["lost"]) == (position, ["", channel], [])
    assert texts(items) == ["one", "two", "three"]
    assert not any(item["catchup"] for item in items)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_resumed_stream_has_only_current_forms(
    server: Any, clients: Any, channel: str, transport: str
) -> None:
    """No client is sent a text that was edited or deleted, nor a loss; one that has it is sent the change."""
    query = f"conn_id={server.connect('ann', channel)}"
    position = next_items(server, clients, "poll", f"{query}&since=")[0]["position"]
    sent = [
        {"user": "test", "channel": channel, "message": {"text": text}} for text in ("old", "gone", "kept")
    ]
    old, gone, _ = server.post("/message", sent)
    seen = next_items(server, clients, "poll", f"{query}&since={position}")
    assert texts(seen) == ["old", "gone", "kept"]
    change = {"channel": channel, "uuid": old["uuid"], "message": {"text": "new"}}
    assert server.request("PATCH", "/message", change).json()["found"]
    assert server.request("DELETE", "/message", {"channel": channel, "uuid": gone["uuid"]}).json()["found"]
    for since, wanted in (
        (position, ["message", "message", "message:edit", "message:delete"]),
        (seen[-1]["position"], ["message:edit", "message:delete"]),
    ):
        resumed, *items = next_items(server, clients, transport, f"{query}&since={since}")
        assert (resumed["recovered"], resumed["lost"]) == (["", channel], [])
        assert [item["type"] for item in items] == wanted
        assert {"old", "gone"}.isdisjoint(item.get("message", {}).get("text") for item in items)
        assert [item["uuid"] for item in items[-2:]] == [old["uuid"], gone["uuid"]]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_position_can_be_resumed_from_twice(
    server: Any, clients: Any, channel: str, transport: str
) -> None:
    """Events that were sent and perhaps not read are sent again to a client that asks for them."""
    query = f"conn_id={server.connect('ann', channel)}"
    position = next_items(server, clients, "poll", f"{query}&since=")[0]["position"]
    publish(server, channel, "one")
    for _ in range(2):
        items = next_items(server, clients, transport, f"{query}&since={position}")
        assert texts(items) == ["one"]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_an_empty_since_begins_now(server: Any, clients: Any, channel: str, transport: str) -> None:
    """A client without a position gets one, and no earlier events."""
    publish(server, channel, "before")
    query = f"conn_id={server.connect('ann', channel)}&since=&"
    [resumed] = next_items(server, clients, transport, query)
    assert (resumed["type"], resumed["recovered"], resumed["lost"]) == ("resumed", ["", channel], [])


def _unreadable(_position: str) -> str:
    return "no-position-at-all!"


def _other_epoch(position: str) -> str:
    return "0" + position


def _future(position: str) -> str:
    return position + "999999"


@pytest.mark.nodes(1, 3)  # What is spoilt here is one shard's part of a position.
@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("spoil", [_unreadable, _other_epoch, _future])
def test_a_position_without_proof_loses_every_channel(
    server: Any, clients: Any, channel: str, transport: str, spoil: Callable[[str], str]
) -> None:
    """An unreadable position, one of another epoch and one of the future put every channel into `lost`."""
    query = f"conn_id={server.connect('ann', channel)}"
    position = next_items(server, clients, "poll", f"{query}&since=")[0]["position"]
    publish(server, channel, "not replayed")
    items = next_items(server, clients, transport, f"{query}&since={spoil(position)}")
    assert [item["type"] for item in items] == ["resumed"]
    assert (items[0]["recovered"], items[0]["lost"]) == ([], ["", channel])


@pytest.mark.parametrize("transport", ["ws", "sse"])
def test_live_events_follow_a_loss(server: Any, clients: Any, channel: str, transport: str) -> None:
    """Live events of a lost channel follow."""
    query = f"conn_id={server.connect('ann', channel)}&since=other-1"
    stream = getattr(clients, transport)(server.port, query)
    assert stream.items()[0]["lost"] == ["", channel]
    publish(server, channel, "live")
    assert texts(stream.items()) == ["live"]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_trimmed_channel_is_lost_and_the_others_recovered(
    own_server: Any, clients: Any, transport: str
) -> None:
    """A channel whose log no longer reaches back is lost; the others are recovered."""
    server = own_server("--log-events", "3")
    query = f"conn_id={server.connect('ann', 'busy', 'quiet')}"
    position = next_items(server, clients, "poll", f"{query}&since=")[0]["position"]
    publish(server, "quiet", "still here")
    publish(server, "busy", "1", "2", "3", "4", "5")
    resumed, *items = next_items(server, clients, transport, f"{query}&since={position}")
    assert (resumed["recovered"], resumed["lost"]) == (["", "quiet"], ["busy"])
    assert texts(items) == ["still here"]


@pytest.mark.nodes(1)
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_stream_of_an_older_client_stays_open_after_a_loss(
    server: Any, clients: Any, channel: str, transport: str
) -> None:
    """It has no way to learn what is lost, and is sent what the other channels have, as with version 0.7."""
    busy, quiet = f"{channel}.busy", f"{channel}.quiet"
    server.post("/channel_config", {busy: {"log_events": 3}})
    query = f"conn_id={server.connect('ann', busy, quiet)}"
    publish(server, busy, "1", "2", "3", "4", "5")
    publish(server, quiet, "still here")
    assert "still here" in texts(next_items(server, clients, transport, query))


class TestSlowClients:
    """Clients that stop reading while megabytes are published."""

    BLOCK = "x" * 100_000
    COUNT = 120

    def flood(self, server: Any, fast: Any) -> None:
        """Publish far more than the kernel buffers; a client that reads receives each at once."""
        received: list[str] = []
        for start in range(0, self.COUNT, 10):
            numbers = [str(number) for number in range(start, start + 10)]
            publish(server, "news", *(number + self.BLOCK for number in numbers))
            while len(received) < start + 10:
                received += texts(fast.items())
        assert [int(text.rstrip("x")) for text in received] == list(range(self.COUNT))

    @pytest.mark.parametrize("transport", ["ws", "sse"])
    def test_a_slow_client_catches_up_in_order(self, own_server: Any, clients: Any, transport: str) -> None:
        """A client that reads again gets all it missed in order; one that always read never waited."""
        server = own_server("--outbox-bytes", "4096")
        slow = getattr(clients, transport)(
            server.port, f"conn_id={server.connect('ann', 'news')}&since=", receive_bytes=4096
        )
        fast = clients.ws(server.port, f"conn_id={server.connect('bob', 'news')}&since=")
        slow.items(), fast.items()
        self.flood(server, fast)
        received: list[str] = []
        while len(received) < self.COUNT:
            received += texts(slow.items())
        assert [int(text.rstrip("x")) for text in received] == list(range(self.COUNT))
        publish(server, "news", "live again")
        assert texts(slow.items()) == ["live again"]

    @pytest.mark.parametrize("transport", ["ws", "sse"])
    def test_a_client_behind_the_log_is_closed_with_4008(
        self, own_server: Any, clients: Any, transport: str
    ) -> None:
        """When the log no longer reaches back the stream ends with 4008, after the events sent in order."""
        server = own_server("--outbox-bytes", "4096", "--log-events", "20")
        conn_id = server.connect("ann", "news")
        slow = getattr(clients, transport)(server.port, f"conn_id={conn_id}&since=", receive_bytes=4096)
        fast = clients.ws(server.port, f"conn_id={server.connect('bob', 'news')}&since=")
        slow.items(), fast.items()
        self.flood(server, fast)
        received, code = self.until_closed(slow)
        assert code == 4008
        assert received == list(range(len(received)))
        again = clients.ws(server.port, f"conn_id={conn_id}&since=other-1")
        assert again.items()[0]["lost"] == ["", "news"]

    def until_closed(self, slow: Any) -> tuple[list[int], int]:
        received: list[str] = []
        while True:
            try:
                items = slow.items()
            except EOFError as closed:
                return [int(text.rstrip("x")) for text in received], int.from_bytes(closed.args[0][:2], "big")
            received += texts(items)
            if items[-1]["type"] == "closing":
                return [int(text.rstrip("x")) for text in received], items[-1]["code"]
