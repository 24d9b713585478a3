"""The time that clients have to read their answers."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.transports.in_process import UPGRADE, Stage, play
from tests.waiting import eventually

from channelstream.http.outbound import Outbound
from channelstream.http.unread import UnreadAnswer
from channelstream.transports import continuing, opening
from channelstream.transports.continuing import ContinuedStream
from channelstream.transports.moving import StreamKind, StreamRecord
from channelstream.wire.pusher import PUSHER


class Buffer:
    """A transport of which only the unsent bytes matter."""

    def __init__(self, *sizes: int) -> None:
        self.sizes = list(sizes)
        self.aborted = False

    def write(self, data: bytes) -> None:
        pass

    def set_write_buffer_limits(self, high: int) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return self.sizes.pop(0)

    def abort(self) -> None:
        self.aborted = True


class Timer:
    """A loop whose time passes when a test says so."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Callable[..., None], tuple[Any, ...]]] = []

    def call_later(self, _delay_s: float, callback: Callable[..., None], *arguments: Any) -> "Timer":
        self.waiting.append((callback, arguments))
        return self

    def cancel(self) -> None:
        self.waiting.clear()

    def pass_by(self) -> None:
        callback, arguments = self.waiting.pop()
        callback(*arguments)


def test_a_client_that_reads_slowly_is_waited_for() -> None:
    """A client that reads something in each interval is waited for, until all is read."""
    buffer, timer = Buffer(300, 200, 1, 0), Timer()
    UnreadAnswer(buffer, 1.0, timer.call_later).watch()  # type: ignore[arg-type]
    for _ in range(3):
        timer.pass_by()
    assert (timer.waiting, buffer.aborted) == ([], False)


def test_a_client_that_reads_nothing_is_dropped() -> None:
    """A client that reads nothing for an interval is dropped."""
    buffer, timer = Buffer(300, 200, 200), Timer()
    UnreadAnswer(buffer, 1.0, timer.call_later).watch()  # type: ignore[arg-type]
    timer.pass_by()
    assert not buffer.aborted
    timer.pass_by()
    assert (timer.waiting, buffer.aborted) == ([], True)


def test_a_stopped_watch_does_not_watch() -> None:
    """It runs once however often it is started, and not after it was stopped."""
    buffer, timer = Buffer(300, 300), Timer()
    watch = UnreadAnswer(buffer, 1.0, timer.call_later)  # type: ignore[arg-type]
    watch.watch(), watch.watch()
    assert len(timer.waiting) == 1
    watch.stop(), watch.stop()
    assert timer.waiting == []


def test_a_client_is_watched_with_each_of_its_answers() -> None:
    """One that has read the first answer whole, and begins with the second after the watch, has all its time for that."""
    buffer, timer = Buffer(300, 0, 0, 200, 200), Timer()
    watch = UnreadAnswer(buffer, 1.0, timer.call_later)  # type: ignore[arg-type]
    watch.watch()
    timer.pass_by()
    assert timer.waiting == []
    watch.watch()
    timer.pass_by()
    assert not buffer.aborted
    timer.pass_by()
    assert (timer.waiting, buffer.aborted) == ([], True)


def test_a_client_is_watched_while_its_answer_waits_in_http() -> None:
    """From the moment at which the transport is full; not once the socket is lost or has left HTTP."""
    buffer, timer = Buffer(300, 300), Timer()
    out = Outbound(buffer, timer, 1.0)  # type: ignore[arg-type]
    for _ in range(2):
        out.pause()
        assert len(timer.waiting) == 1
        out.stop_watching()
        assert timer.waiting == []


def is_held(port: int, peer_port: int) -> bool:
    """Return whether a process has the server's end of a connection; one that only the kernel still has, has no inode."""
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ends = (f":{port:04X}", f":{peer_port:04X}")
    return any((row[1][-5:], row[2][-5:]) == ends and row[9] != "0" for row in rows)


@pytest.mark.parametrize("connection", ["keep-alive", "close"])
def test_a_poll_that_is_never_read_loses_its_socket(own_server: Any, clients: Any, connection: str) -> None:
    """A client that stops reading the megabytes of its answer loses its socket."""
    server = own_server("--keep-alive-s", "1")
    answer = server.post("/connect", {"username": "ann", "channels": ["bulk"]})
    stuck = clients.raw(server.port, receive_bytes=4096)
    target = f"/listen?conn_id={answer['conn_id']}&since={answer['position']}"
    stuck.send(f"GET {target} HTTP/1.1\r\nHost: test\r\nConnection: {connection}\r\n\r\n".encode())
    peer_port = stuck.socket.getsockname()[1]
    server.post("/info", {"info": {"channels": []}})  # Answers come in order: the server has the poll now.
    assert is_held(server.port, peer_port)
    server.post("/message", [{"user": "test", "channel": "bulk", "message": "x" * 1_000_000}] * 4)
    eventually(lambda: not is_held(server.port, peer_port), "the socket is kept")


class Lost(asyncio.Protocol):
    """Notes the end of a transport."""

    is_lost = False

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True


def test_a_refused_websocket_that_reads_nothing_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its socket has left HTTP and belongs to no stream: nothing else would bound how long it stays."""
    monkeypatch.setattr(opening, "CLOSE_TIMEOUT_S", 0.0)

    async def scenario(stage: Stage) -> None:
        transport, lost = stage.transport, Lost()
        stage.speak_http()
        while not transport.get_write_buffer_size():
            transport.write(b"x" * 16_384)
            await asyncio.sleep(0)
        head = UPGRADE % b"unknown"
        await asyncio.get_running_loop().sock_sendall(stage.client, head)
        await stage.until(transport.is_closing)
        transport.set_protocol(lost)
        await stage.until(lambda: lost.is_lost)

    play(scenario)


def test_a_continued_stream_that_is_refused_and_reads_nothing_is_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The server has been upgraded, and its application does not speak the protocol any more."""
    monkeypatch.setattr(continuing, "CLOSE_TIMEOUT_S", 0.0)

    async def scenario(stage: Stage) -> None:
        transport, lost = stage.transport, Lost()
        while not transport.get_write_buffer_size():
            transport.write(b"x" * 16_384)
            await asyncio.sleep(0)
        stage.connection.protocol = PUSHER
        record = StreamRecord(StreamKind.WEBSOCKET, stage.connection.id, None)
        ContinuedStream(stage.streams, record).connection_made(transport)
        assert transport.is_closing()
        transport.set_protocol(lost)
        await stage.until(lambda: lost.is_lost)

    play(scenario)
