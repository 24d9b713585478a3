"""Heartbeats and pings over real sockets, and the ends of clients that do not answer."""

from typing import Any

import pytest
from tests.http_client import http

QUICK = ("--heartbeat-interval-s", "0.2", "--ping-interval-s", "0.4")
ANSWERED = ("--heartbeat-interval-s", "0.5", "--ping-interval-s", "1")
"""For a client that answers each ping: it has a whole interval for it, on any machine."""
PONG, PING, HEARTBEAT = 0x8A, (0x89, b""), (0x81, b"[]")


def test_a_websocket_is_sent_heartbeats_and_pings(own_server: Any, clients: Any, masked: Any) -> None:
    """A WebSocket is sent an empty list at each heartbeat and a ping at every few, as long as it answers."""
    server = own_server(*ANSWERED)
    stream = clients.ws(server.port, f"conn_id={server.connect('ann', 'news')}")
    for _ in range(3):
        assert [stream.frame() for _ in range(3)] == [HEARTBEAT, HEARTBEAT, PING]
        stream.send(masked(b"", PONG))


def test_a_websocket_that_answers_no_ping_is_dropped(own_server: Any, clients: Any) -> None:
    """A WebSocket that answers no ping is dropped when the next one is due."""
    server = own_server(*QUICK)
    stream = clients.ws(server.port, f"conn_id={server.connect('ann', 'news')}")
    assert [stream.frame() for _ in range(4)] == [HEARTBEAT, HEARTBEAT, PING, HEARTBEAT]
    assert stream.rest() == b""


def test_an_event_stream_is_sent_heartbeats(own_server: Any, clients: Any) -> None:
    """An event stream is sent empty lists, which do not change its position."""
    server = own_server(*QUICK)
    stream = clients.sse(server.port, f"conn_id={server.connect('ann', 'news')}")
    assert [stream.block() for _ in range(4)] == [(None, [])] * 4


def test_an_idle_poll_is_answered_with_an_empty_list(own_server: Any) -> None:
    """A poll without events is answered with an empty list, and so is the next one."""
    server = own_server("--poll-timeout-s", "0.2")
    url = f"{server.url}/listen?conn_id={server.connect('ann', 'news')}"
    assert [http.get(url).json() for _ in range(2)] == [[], []]


def test_the_bound_of_frames_counts_from_each_ping(own_server: Any, clients: Any, masked: Any) -> None:
    """The bound of frames counts again from each ping, so a client that chats is no flood."""
    server = own_server(*ANSWERED, "--max-inbound-frames", "20")
    stream = clients.ws(server.port, f"conn_id={server.connect('ann', 'news')}")
    for _ in range(3):
        stream.send(masked(b"", PONG) * 10)
        assert [stream.frame() for _ in range(3)] == [HEARTBEAT, HEARTBEAT, PING]


@pytest.mark.parametrize("transport", ["ws", "sse"])
def test_a_client_that_stops_reading_is_dropped(own_server: Any, clients: Any, transport: str) -> None:
    """A client that stops reading is dropped in bounded time, and leaves after its grace period."""
    server = own_server(*QUICK, "--detach-grace-s", "0.2", "--outbox-bytes", "4096")
    bob = server.connect("bob", "news", channel_configs={"news": {"notify_presence": True}})
    member = clients.sse(server.port, f"conn_id={bob}&since=")
    ann = server.connect("ann", "news", "bulk")
    stuck = getattr(clients, transport)(server.port, f"conn_id={ann}&since=", receive_bytes=4096)
    stuck.items(), member.items()
    block = {"user": "test", "channel": "bulk", "message": "x" * 1_000_000}
    for _ in range(4):
        server.post("/message", [block] * 3)
    received: list[Any] = []
    while len(received) < 2:
        received += member.items()
    assert [item["message"]["action"] for item in received] == ["joined", "parted"]
