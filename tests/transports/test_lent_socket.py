"""Writes of the flush to the socket itself: in order with all other writes, and never to the socket of another client."""

import asyncio
import json
import os
import random
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from tests.transports.in_process import Stage, play

from channelstream.close_codes import CloseCode
from channelstream.core.connection import ConnectionState
from channelstream.core.events import Message
from channelstream.http.lent_socket import LentSocket, lent_socket
from channelstream.transports.sse import SSEStream
from channelstream.transports.websocket import WebSocketStream
from channelstream.wire.frames import close_frame

LENT_SEED = os.environ.get("LENT_SEED")
MUCH = 8_000_000
"""More bytes than the kernel buffers for both ends."""
HEARTBEATS = (b"[]", b"")
"""The payloads of a heartbeat, and of the ping with it."""


async def opened(stage: Stage, kind: str = "ws") -> Any:
    """Return a live stream; what it was sent first is read."""
    if kind == "ws":
        stream: Any = WebSocketStream(stage.streams, stage.transport, stage.connection, deflate=False)
    else:
        stream = SSEStream(stage.streams, stage.transport, stage.connection)
    stage.transport.set_protocol(stream)
    stream.open("")
    await stage.until(lambda: stage.connection.state is ConnectionState.LIVE)
    await drain(stage)
    return stream


async def drain(stage: Stage) -> bytes:
    """Read what has arrived."""
    found = b""
    for _ in range(3):
        try:
            found += stage.client.recv(1_000_000)
        except BlockingIOError:
            await asyncio.sleep(0)
    return found


async def publish(stage: Stage, number: int, size: int = 10) -> None:
    payload = b'"%b"' % (b"y" * size)
    await stage.streams.node.publish(
        [Message(uuid=f"{number}", channel="a", user="x", payload=payload, timestamp="t")]
    )


async def flushed(stage: Stage) -> None:
    await stage.until(lambda: not stage.streams.node.hub.rounds.is_due)


def frames(data: bytes) -> Iterator[bytes]:
    """Yield the payloads of frames."""
    at = 0
    while at < len(data):
        head, size = data[at], data[at + 1]
        assert head in {0x81, 0x89}, f"no frame begins at {at}"
        at += 2
        if size >= 126:
            count = 2 if size == 126 else 8
            size = int.from_bytes(data[at : at + count])
            at += count
        yield data[at : at + size]
        at += size


def uuids(data: bytes) -> list[int]:
    """Return the numbers of the messages in frames, in their order."""
    return [
        int(item["uuid"])
        for payload in frames(data)
        if payload not in HEARTBEATS
        for item in json.loads(payload)
        if item["type"] == "message"
    ]


@pytest.mark.parametrize("kind", ["ws", "sse"])
def test_a_stream_lends_its_socket_when_it_is_sent_an_event(kind: str) -> None:
    """An idle stream needs none, also after heartbeats."""

    async def scenario(stage: Stage) -> None:
        stream = await opened(stage, kind)
        stream.beat()
        assert stage.connection.write == stream.write
        for number in range(2):
            await publish(stage, number)
            await flushed(stage)
            assert isinstance(getattr(stage.connection.write, "__self__", None), LentSocket)

    play(scenario)


@pytest.mark.parametrize("round_", range(5))
def test_frames_stay_whole_and_in_order(round_: int) -> None:
    """Whatever the client reads when, and whatever writes: the flush, a heartbeat, or what catches up after a stall."""
    seed = LENT_SEED or f"{random.SystemRandom().random()}"
    chance = random.Random(seed)
    print(f"LENT_SEED={seed}")

    async def scenario(stage: Stage) -> None:
        stream = await opened(stage)
        stage.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
        found, count = bytearray(), 0
        for _ in range(300):
            match chance.randrange(4):
                case 0 | 1:
                    await publish(stage, count, chance.choice((10, 1_000, 30_000)))
                    count += 1
                case 2:
                    stream.beat()
                    stream._is_responsive = True
                case 3 if chance.random() < 0.3:
                    found += await drain(stage)
                case _:
                    with suppress(BlockingIOError):
                        found += stage.client.recv(chance.choice((1_000, 100_000)))
                    await publish(stage, count)
                    count += 1
                    stage.streams.node.hub.flush()  # The kernel may have room again, and the loop has not seen it yet.
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(0)
        await publish(stage, count)
        async with asyncio.timeout(60):
            while not found.endswith(b"]") or uuids(bytes(found))[-1:] != [count]:
                found += await drain(stage)
        assert uuids(bytes(found)) == list(range(count + 1))

    play(scenario)


def test_a_socket_that_nobody_uses_stays_open() -> None:
    with socket.socket() as own:
        lent = LentSocket(own.family, own.type, own.proto, own.fileno())
        del lent
        assert is_open(own.fileno())


def test_the_flush_writes_to_the_newer_stream() -> None:
    """The older one is sent its close frame after the newer one has attached."""

    async def scenario(stage: Stage) -> None:
        older = await opened(stage)
        await publish(stage, 0)
        await flushed(stage)
        near, far = socket.socketpair()
        with far:
            far.setblocking(False)
            transport, _ = await asyncio.get_running_loop().connect_accepted_socket(asyncio.Protocol, near)
            newer = WebSocketStream(stage.streams, transport, stage.connection, deflate=False)
            transport.set_protocol(newer)
            newer.open("")
            assert older._closing
            for number in (1, 2):
                await publish(stage, number)
                await flushed(stage)
                older.write(close_frame(CloseCode.REPLACED))
                older.write_first(b"x" * MUCH)
            assert uuids(far.recv(100_000)) == [1, 2]
            assert older._socket is not None
            assert uuids((await drain(stage)).partition(b"\x88")[0]) == [0]
            transport.abort()

    play(scenario)


@pytest.mark.parametrize("how", ["lost", "left to another process"])
def test_nothing_is_written_to_the_next_owner_of_a_descriptor(how: str) -> None:
    async def scenario(stage: Stage) -> None:
        stream = await opened(stage)
        await publish(stage, 0)
        await flushed(stage)
        write, number = stage.connection.write, stage.transport.get_extra_info("socket").fileno()
        if how == "lost":
            stage.transport.abort()
        else:
            stream.suspend()
            stream.leave()
        await stage.until(lambda: not is_open(number))
        others = [socket.socketpair() for _ in range(10)]
        (other,) = [pair for pair in others if number in {end.fileno() for end in pair}]
        with pytest.raises(OSError, match="Bad file descriptor"):
            write(b"for the first client")
        for end in other:
            end.setblocking(False)
            with pytest.raises(BlockingIOError):
                end.recv(100)
        for pair in others:
            for end in pair:
                end.close()

    play(scenario)


def is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def test_a_lost_client_ends_its_stream_at_the_next_write() -> None:
    """The refusal of the kernel reaches the transport, which tells its protocol."""

    async def scenario(stage: Stage) -> None:
        stream = await opened(stage)
        await publish(stage, 0)
        await flushed(stage)
        assert stage.connection.write != stream.write
        stage.transport.pause_reading()
        stage.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        stage.client.close()
        number = 1
        while stage.connection.stream is not None:
            await publish(stage, number)
            await flushed(stage)
            await asyncio.sleep(0)
            number += 1
            assert number < 100
        assert stage.connection.state is ConnectionState.DETACHED

    play(scenario)


@pytest.mark.parametrize("write", ["write", "write_first"])
def test_while_bytes_wait_in_the_transport_the_flush_writes_to_it(write: str) -> None:
    async def scenario(stage: Stage) -> None:
        stream = await opened(stage)
        await publish(stage, 0)
        await flushed(stage)
        assert stage.connection.write != stream.write
        getattr(stream, write)(b"x" * MUCH)
        assert stage.connection.write == stream.write

    play(scenario)


def test_a_transport_that_closes_lends_no_socket() -> None:
    async def scenario(stage: Stage) -> None:
        stream = await opened(stage)
        stage.transport.abort()
        stream.write(b"too late")
        assert stage.connection.write == stream.write

    play(scenario)


class Tls:
    """A transport, as far as `lent_socket` asks it."""

    def get_extra_info(self, name: str) -> Any:
        return {"sslcontext": object(), "socket": object()}.get(name)


def test_a_transport_with_tls_lends_no_socket() -> None:
    transport: Any = Tls()
    assert lent_socket(transport) is None
