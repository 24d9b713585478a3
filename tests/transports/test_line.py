"""The sign of life of slow clients: the bytes that their line has taken, and streams that stay open as long as it moves."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from tests.transports.in_process import Stage, play
from tests.waiting import PATIENCE_S

from channelstream.core.connection import Connection, ConnectionState
from channelstream.core.events import Message
from channelstream.http.line import Line, ack_progress
from channelstream.http.unread import UnreadAnswer
from channelstream.transports.longpoll import PollStream
from channelstream.transports.sse import SSEStream
from channelstream.transports.websocket import WebSocketStream

MUCH = 8_000_000
"""More bytes than the kernel buffers for both ends."""
PIECE = 500_000
"""Bytes that a slow client reads at a time."""

MAKE: dict[str, Callable[[Stage], Any]] = {
    "ws": lambda stage: WebSocketStream(stage.streams, stage.transport, stage.connection, deflate=False),
    "sse": lambda stage: SSEStream(stage.streams, stage.transport, stage.connection),
}


async def read_on(stage: Stage) -> None:
    """Have the client read until its line has taken more."""
    before = ack_progress(stage.transport)
    assert before is not None
    await stage.receive(PIECE)
    await stage.until(lambda: (now := ack_progress(stage.transport)) is None or now > before)


def ping_interval(stage: Stage, stream: Any) -> None:
    for _ in range(stage.streams.ping_every):
        stream.beat()


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_the_bytes_a_line_has_taken_are_known(kind: str) -> None:
    """It grows as the client reads, stays where it reads nothing, and is None when all was taken."""

    async def scenario(stage: Stage) -> None:
        assert ack_progress(stage.transport) is None
        stage.transport.write(b"x" * MUCH)
        for _ in range(3):
            await read_on(stage)
        await stage.receive(MUCH - 3 * PIECE)
        await stage.until(lambda: ack_progress(stage.transport) is None)

    play(scenario, kind=kind)


def test_a_dropped_socket_shows_no_progress() -> None:
    """A query of a dropped socket is no fault, and shows no progress."""

    async def scenario(stage: Stage) -> None:
        stage.transport.write(b"x" * MUCH)
        before = ack_progress(stage.transport)
        stage.transport.abort()
        await asyncio.sleep(0)
        assert before is not None
        assert (ack_progress(stage.transport) or 0) <= before

    play(scenario)


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_the_end_of_a_client_is_seen_at_once(kind: str) -> None:
    """The end of a client is detected at once, also behind earlier bytes; so is that of a dropped socket."""

    async def scenario(stage: Stage) -> None:
        line = Line(stage.transport)
        stage.transport.pause_reading()
        stage.client.send(b"x")
        assert not line.has_ended()
        stage.client.close()
        assert line.has_ended()
        stage.transport.abort()
        assert line.has_ended()

    play(scenario, kind=kind)


@pytest.mark.parametrize("kind", ["tcp", "unix"])
@pytest.mark.parametrize("transport", MAKE)
def test_a_stream_lives_as_long_as_its_line_moves(transport: str, kind: str) -> None:
    """A client that takes longer than many ping intervals for a big message gets it whole, on the same stream."""

    async def scenario(stage: Stage) -> None:
        stream = await stage.opened(MAKE[transport](stage))
        stream.write(b"x" * MUCH)
        for _ in range(MUCH // PIECE - 1):
            await read_on(stage)
            ping_interval(stage, stream)
            assert not stage.transport.is_closing()

    play(scenario, kind=kind)


@pytest.mark.parametrize("transport", MAKE)
def test_a_stream_without_progress_is_dropped(transport: str) -> None:
    """A client that takes nothing of the pending bytes is dropped within two ping intervals."""

    async def scenario(stage: Stage) -> None:
        stream = await stage.opened(MAKE[transport](stage))
        stream.write(b"x" * MUCH)
        await asyncio.sleep(0)
        await read_on(stage)
        for _ in range(2):
            assert not stage.transport.is_closing()
            ping_interval(stage, stream)
            await asyncio.sleep(0)
        ping_interval(stage, stream)
        assert stage.transport.is_closing()

    play(scenario)


def test_a_websocket_that_takes_bytes_and_answers_no_ping_is_dropped() -> None:
    """Heartbeats taken by the client's kernel are no sign of life: a program that hangs is dropped."""

    async def scenario(stage: Stage) -> None:
        stream = await stage.opened(MAKE["ws"](stage))
        for _ in range(2 * stage.streams.ping_every):
            assert not stage.transport.is_closing()
            stream.beat()
            await stage.until(lambda: ack_progress(stage.transport) is None or stage.transport.is_closing())
        assert stage.transport.is_closing()

    play(scenario)


class Timer:
    """A loop whose time passes when a test says so."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Callable[..., None], tuple[Any, ...]]] = []

    def call_later(self, _delay_s: float, callback: Callable[..., None], *arguments: Any) -> Any:
        self.waiting.append((callback, arguments))
        return self

    def pass_by(self) -> None:
        callback, arguments = self.waiting.pop()
        callback(*arguments)


def test_an_answer_that_moves_slowly_is_not_unread() -> None:
    """A client that reads on from the kernel's buffer is waited for, though the server itself can send nothing."""

    async def scenario(stage: Stage) -> None:
        timer = Timer()
        stage.transport.write(b"x" * MUCH)
        await stage.until(lambda: stage.transport.get_write_buffer_size() < MUCH)
        UnreadAnswer(stage.transport, 1.0, timer.call_later).watch()
        await read_on(stage)
        timer.pass_by()
        assert not stage.transport.is_closing()
        timer.pass_by()
        assert stage.transport.is_closing()

    play(scenario)


@pytest.mark.slow
def test_a_poll_is_kept_while_its_client_reads() -> None:
    """The connection of a poll is kept while its client reads a long answer, and not when it stops."""

    async def scenario(stage: Stage) -> None:
        poll = PollStream(stage.streams, stage.connection, Line(stage.transport))
        poll.open("")
        await stage.until(lambda: poll.is_finished)
        stage.transport.write(b"x" * MUCH)
        await stage.until(lambda: stage.transport.get_write_buffer_size() < MUCH)
        held = asyncio.ensure_future(poll.hold_while_read())
        for _ in range(3):
            before_s = stage.connection.deadline_s or 0.0
            await read_on(stage)
            await stage.until(lambda before_s=before_s: (stage.connection.deadline_s or 0.0) > before_s)  # type: ignore[misc]
        async with asyncio.timeout(PATIENCE_S):
            await held

    play(scenario, poll_gap_s=1.0)


def test_stopping_does_not_wait_for_a_connection_without_a_stream() -> None:
    """A client that reads a long answer of a poll is not taken for a stream about to open."""

    async def scenario(stage: Stage) -> None:
        streams = stage.streams
        payload = b'"%b"' % (b"y" * MUCH)
        await streams.node.publish([Message(uuid="m", channel="a", user="x", payload=payload, timestamp="t")])
        stage.speak_http()
        request = b"GET /listen?conn_id=c HTTP/1.1\r\nHost: x\r\n\r\n"
        await asyncio.get_running_loop().sock_sendall(stage.client, request)
        await stage.receive(20)
        async with asyncio.timeout(PATIENCE_S):
            await streams.all_opened()

    play(scenario)


def test_a_poll_on_a_slow_line_gets_its_whole_answer(own_server: Any, clients: Any) -> None:
    """An answer that takes many gaps between polls arrives whole, and the connection is there for the next poll."""
    server = own_server("--poll-gap-s", "3", "--keep-alive-s", "3", "--heartbeat-interval-s", "0.2")
    pace = clients.sse(server.port, f"conn_id={server.connect('bob', 'other')}")
    answer = server.post("/connect", {"username": "ann", "channels": ["bulk"]})
    target = f"/listen?conn_id={answer['conn_id']}&since="
    server.post("/message", {"user": "test", "channel": "bulk", "message": "x" * 4_000_000})
    poll = clients.raw(server.port, receive_bytes=4096)
    poll.send(f"GET {target}{answer['position']} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
    size = int(poll.until(b"\r\n\r\n").lower().partition(b"content-length: ")[2].split()[0])
    left = size
    for pieces in range(20, 0, -1):
        pace.block()
        left -= len(poll.exactly(left // pieces))
    assert (size > 4_000_000, left) == (True, 0)
    poll.send(f"GET {target} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
    assert poll.until(b"\r\n\r\n").startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("transport", MAKE)
def test_events_wait_in_the_log_for_a_stream_that_is_full(transport: str) -> None:
    """New events wait in the log while the line takes the first ones, and follow then; that is counted and announced."""

    async def scenario(stage: Stage) -> None:
        stream, node = MAKE[transport](stage), stage.streams.node
        stalled: list[Connection] = []
        node.signals.stalled.connect(stalled.append)
        stage.transport.set_protocol(stream)
        stage.transport.set_write_buffer_limits(high=stage.streams.settings.outbox_bytes)
        stream.write(b"x" * MUCH)
        await stage.until(lambda: stage.transport.get_write_buffer_size() < MUCH)
        stream.open("")
        await asyncio.sleep(0)
        for number in range(10):
            payload = b'"%b"' % (b"y" * 500_000)
            await node.publish(
                [Message(uuid=f"m{number}", channel="a", user="x", payload=payload, timestamp="t")]
            )
            await asyncio.sleep(0)
        await stage.until(lambda: stage.connection.state is ConnectionState.CATCHING_UP)
        assert stage.transport.get_write_buffer_size() < MUCH
        await stage.receive(MUCH + 10 * 500_000)
        assert node.stalls > 0
        assert stalled == [stage.connection] * node.stalls

    play(scenario)


@pytest.mark.parametrize("transport", MAKE)
def test_a_stream_that_is_full_waits_no_longer_than_its_socket_lives(transport: str) -> None:
    """Its task would stay for ever, with all that it refers to."""

    async def scenario(stage: Stage) -> None:
        before, stream = asyncio.all_tasks(), MAKE[transport](stage)
        stage.transport.set_protocol(stream)
        stage.transport.set_write_buffer_limits(high=stage.streams.settings.outbox_bytes)
        stream.write(b"x" * MUCH)
        stream.open("")
        await stage.until(lambda: stage.connection.state is ConnectionState.CATCHING_UP)
        await stage.until(lambda: stream._attachment.is_paused)
        assert asyncio.all_tasks() > before
        stage.transport.abort()
        await stage.until(lambda: asyncio.all_tasks() == before)

    play(scenario)
