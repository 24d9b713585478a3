"""Slow clients as the admin's pages show them, with a real reader that stops and goes on."""

import socket
from types import SimpleNamespace
from typing import Any, cast

from tests.admin_pages import figures, rows
from tests.waiting import PATIENCE_S, eventually

from channelstream.admin.slow import REMEMBERED, SlowClients
from channelstream.core.connection import Connection, Step, Stream
from channelstream.service.signals import Signals
from channelstream.wire.channelstream import V07

TEXT = "x" * 50_000
MESSAGES = 200
"""10 MB: more than the kernel takes for a reader that has stopped."""


def stopped_reader(running: Any, conn_id: str) -> socket.socket:
    """Open an event stream, of which nothing is read; the kernel keeps little for it."""
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    reader.settimeout(PATIENCE_S)
    reader.connect(("127.0.0.1", running.port))
    request = f"GET /sse?conn_id={conn_id}&since= HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n"
    reader.sendall(request.encode())
    return reader


def test_a_client_that_does_not_read_is_shown_while_it_does_not(start_server: Any) -> None:
    """Since when, and how far it is behind; once it has read everything, it is not slow any more."""
    running = start_server("--outbox-bytes", "4096")

    def slow() -> list[dict[str, Any]]:
        return rows(running, "slow_clients")

    def figure() -> Any:
        return figures(running)["slow_clients"]

    conn_id = running.connect("slow-ann", "slow")
    with stopped_reader(running, conn_id) as reader:
        assert slow() == []
        for number in range(MESSAGES):
            running.post("/message", [{"channel": "slow", "user": "x", "message": f"{number} {TEXT}"}])
        eventually(lambda: len(slow()) == 1 and slow()[0]["lag"]["events"] > 1, "it is not shown")
        [row] = slow()
        assert (row["id"], row["user"], row["transport"]) == (conn_id, "slow-ann", "SSE")
        assert 1 < row["lag"]["events"] <= MESSAGES
        assert row["lag"]["bytes"] > row["lag"]["events"] * len(TEXT)
        assert row["waiting_bytes"] > 0
        eventually(lambda: figure() == 1, "it is not counted")
        reader.setsockopt(
            socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20
        )  # With the little one it would take 20 s.
        received = b""
        while f'"{MESSAGES - 1} x'.encode() not in received[-2 * len(TEXT) :]:
            received += reader.recv(1 << 20)
        eventually(lambda: slow() == [], "it is still slow")
        eventually(lambda: figure() == 0, "it is still counted")


class Stalls:
    """The connections of a node that has no pages, and their stalls at a time that a test sets."""

    def __init__(self) -> None:
        self.signals = Signals(lambda: None)
        self.now_s = 100.0
        calls = SimpleNamespace(register=lambda name, procedure: None)
        clock = SimpleNamespace(wall=lambda: self.now_s, steady=lambda: self.now_s)
        node = SimpleNamespace(signals=self.signals, remote_calls=calls, clock=clock)
        app = SimpleNamespace(id="")
        self.slow = SlowClients(cast(Any, SimpleNamespace(node=node, clock=clock, app=app)))

    def stall(self, connection: Connection) -> None:
        """Stall a live connection, or again one that has not caught up, as its attachment does."""
        self.signals.stalled.emit(connection)
        if connection.state.value == "live":
            connection.move(Step.STALL)


def live(number: int = 0) -> Connection:
    connection = Connection(f"c{number}", "ann", V07, (0,), 15.0)
    attach(connection)
    connection.move(Step.CAUGHT_UP)
    return connection


def attach(connection: Connection) -> None:
    connection.move(Step.ATTACH)
    connection.stream = cast(Stream, object())


def test_connections_that_have_gone_are_not_kept_where_nobody_looks() -> None:
    """Only so many are remembered; those that still wait are all there, in the order of their stalls."""
    stalls = Stalls()
    waiting = [live(number) for number in range(2 * REMEMBERED)]
    for connection in waiting:
        stalls.stall(connection)
    for number in range(20 * REMEMBERED):
        gone = live(number)
        stalls.stall(gone)
        gone.move(Step.CLOSE)
        gone.stream = None
    assert len(stalls.slow._stalls) <= 4 * REMEMBERED
    assert [connection for connection, _ in stalls.slow.waiting()] == waiting


def test_a_client_that_has_gone_on_begins_to_wait_again() -> None:
    """Also if nobody has looked in between; further stalls of the same wait do not change its begin."""
    stalls, connection = Stalls(), live()
    stalls.stall(connection)
    stalls.now_s = 200.0
    stalls.stall(connection)
    assert stalls.slow.waiting() == [(connection, 100.0)]
    connection.move(Step.CAUGHT_UP)
    stalls.now_s = 300.0
    stalls.stall(connection)
    assert stalls.slow.waiting() == [(connection, 300.0)]


def test_a_new_stream_that_catches_up_is_not_slow() -> None:
    """Until it stalls itself."""
    stalls, connection = Stalls(), live()
    stalls.stall(connection)
    attach(connection)
    assert stalls.slow.waiting() == []
    stalls.stall(connection)
    attach(connection)
    stalls.now_s = 200.0
    stalls.stall(connection)
    assert stalls.slow.waiting() == [(connection, 200.0)]
