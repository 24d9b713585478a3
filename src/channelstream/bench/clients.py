"""A subscriber: a small protocol that opens a stream, checks the received messages, and answers pings and closes."""

import asyncio
import socket
import struct
import time
from collections.abc import Callable
from typing import cast

from channelstream.bench.checker import Checker, ReceiveState
from channelstream.bench.inbound import (
    CLOSE,
    DATA_OPCODES,
    PING,
    AnswerReader,
    BlockReader,
    FrameReader,
    Piece,
    Reader,
    status_of,
)
from channelstream.bench.load import BenchFailed, Transport
from channelstream.bench.wire import CLOSE_FRAME, PONG_FRAME, TEXT_FRAME, Wire, masked

_READERS: dict[Transport, Callable[[], Reader]] = {
    "ws": FrameReader,
    "sse": BlockReader,
    "poll": AnswerReader,
}
_HEAD_BYTES = 32_768
"""Longest accepted head of an answer."""
_NO_LINGER = struct.pack("ii", 1, 0)
_NORMAL = (1000).to_bytes(2)


class Audience:
    """Shared data of the clients of one process.

    Attributes:
        bytes: payload and framing that all clients received, without HTTP heads.
        closed: number of streams that the server ended, by reason.
    """

    def __init__(self, wire: Wire, transport: Transport, deflate: bool) -> None:
        self.wire = wire
        self.transport = transport
        self.deflate = deflate
        self.checker = Checker()
        self.start = ReceiveState()
        self.bytes = 0
        self.closed: dict[str, int] = {}

    def lost_stream(self, reason: str) -> None:
        self.closed[reason] = self.closed.get(reason, 0) + 1


class Client(asyncio.Protocol):
    """One stream of a subscriber.

    Attributes:
        state: what it has received.
        attached: done when the server has accepted the stream, failed if it refused it.
    """

    __slots__ = ("_audience", "_conn_id", "_ending", "_head", "_reader", "_transport", "attached", "state")

    def __init__(self, audience: Audience, conn_id: str) -> None:
        self._audience = audience
        self._conn_id = conn_id
        self._reader = _READERS[audience.transport]()
        self._transport: asyncio.Transport | None = None
        self._head: bytes | None = None if audience.transport == "poll" else b""
        self._ending = False
        self.state = audience.start
        self.attached: asyncio.Future[None] | None = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        audience = self._audience
        self._transport.write(audience.wire.stream(audience.transport, self._conn_id, audience.deflate))
        if audience.transport == "poll":
            # A poll is answered when there is an event, so a sent poll counts as attached.
            self._open()

    # -- receiving

    def data_received(self, data: bytes) -> None:
        """Take the cached step for these bytes, or parse them."""
        audience = self._audience
        audience.bytes += len(data)
        if not self._reader.rest and self._head is None and self.attached is None:
            step = self.state.steps.get(data)
            if step is not None:
                self.state = audience.checker.take(step, time.monotonic_ns())
                return
        try:
            self._read(data)
        except BenchFailed as error:
            self._end(str(error))

    def _read(self, data: bytes) -> None:
        if self._head is not None:
            data = self._read_head(self._head + data)
            if not data:
                return
        was_whole = not self._reader.rest
        pieces = self._reader.feed(data)
        if self.attached is not None:
            self._look_for_opening(pieces)
        payloads = [piece.payload for piece in pieces if piece.opcode in DATA_OPCODES]
        if payloads:
            # Control frames and polls need an action each time, so their steps are not cached.
            plain = len(payloads) == len(pieces) and self._audience.transport != "poll"
            is_whole = was_whole and not self._reader.rest and plain
            step = self._audience.checker.learn(self.state, data if is_whole else b"", payloads)
            self.state = self._audience.checker.take(step, time.monotonic_ns())
        for piece in pieces:
            self._respond(piece)

    def _read_head(self, data: bytes) -> bytes:
        """Collect the head of the answer. Return the bytes after it."""
        head, end, rest = data.partition(b"\r\n\r\n")
        if not end:
            self._head = data
            if len(data) > _HEAD_BYTES:
                raise BenchFailed("the head of an answer is too long")
            return b""
        self._head = None
        self._check_head(head)
        for text in self._audience.wire.opening:
            self._send(masked(TEXT_FRAME, text.encode()))
        if not self._audience.wire.opened_by:
            self._open()
        return rest

    def _check_head(self, head: bytes) -> None:
        wanted = 101 if self._audience.transport == "ws" else 200
        status = status_of(head)
        if status != wanted:
            raise BenchFailed(f"the server answered a stream with {status}")
        if self._audience.deflate and b"permessage-deflate" not in head:
            raise BenchFailed("the server does not compress: its option compression is off")

    def _look_for_opening(self, pieces: list[Piece]) -> None:
        wanted = self._audience.wire.opened_by.encode()
        if any(wanted in piece.payload for piece in pieces):
            self._open()

    def _open(self) -> None:
        if self.attached is not None and not self.attached.done():
            self.attached.set_result(None)
        self.attached = None

    # -- answering

    def _respond(self, piece: Piece) -> None:
        if self._audience.transport == "poll":
            self._poll_again()
        elif piece.opcode == PING:
            self._send(masked(PONG_FRAME, piece.payload))
        elif piece.opcode == CLOSE:
            self._end(f"close code {int.from_bytes(piece.payload[:2])}")

    def _poll_again(self) -> None:
        status = cast(AnswerReader, self._reader).status
        if status == 200:
            self._send(self._audience.wire.stream("poll", self._conn_id))
        else:
            self._end(f"a poll was answered {status}")

    def _send(self, data: bytes) -> None:
        if self._transport is not None and not self._ending:
            self._transport.write(data)

    # -- ending

    def _end(self, reason: str) -> None:
        """Handle the end of the stream by the server, or by an error."""
        if self.attached is not None and not self.attached.done():
            self.attached.set_exception(BenchFailed(reason))
        elif not self._ending:
            self._audience.lost_stream(reason)
        self._ending = True
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if not self._ending:
            by = "closed by the server, or by a proxy that has too few connections"
            self._end(f"{by} ({exc})" if exc else by)

    def leave(self) -> None:
        """Close the stream on purpose. The socket is reset, so that thousands of them do not keep ports for a minute."""
        if self._transport is None:
            return
        if self._audience.transport == "ws":
            self._send(masked(CLOSE_FRAME, _NORMAL))
        self._ending = True
        sock = self._transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self._transport.close()
