"""A subscriber that reconnects: a small protocol that does the steps of the Python client's `ResumingClient`.

It shares what thousands of clients have in common: the same frame is decoded once, and an application with a few connections
registers all of them. `clients.Client` instead reads one stream, the end of which is a fault.
"""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from channelstream.bench.application import Application
from channelstream.bench.inbound import CLOSE, DATA_OPCODES, PING, AnswerReader, FrameReader, Piece, status_of
from channelstream.bench.load import BenchFailed
from channelstream.bench.wire import PONG_FRAME, Wire, masked
from channelstream_client.protocol import LOST, Item, RenewalFailed, StreamEnded, items_of, refused
from channelstream_client.resuming import Limits, OpenStream, RenewConnection, ResumingClient, Stop, Wait

_FRAMES_KEPT = 1_024
_HEAD_END = b"\r\n\r\n"
_HEAD_BYTES = 32_768
_RETRY_AFTER = re.compile(rb"(?i)\r\nretry-after:[ \t]*([^\r]*)")


class Frames:
    """Decodes frames. Clients that receive the same bytes share the result, which they do not change."""

    def __init__(self) -> None:
        self._known: dict[bytes, list[Item]] = {}

    def items(self, payload: bytes) -> list[Item]:
        items = self._known.get(payload)
        if items is None:
            if len(self._known) >= _FRAMES_KEPT:
                self._known.clear()
            items = self._known[payload] = items_of(payload)
        return items


@dataclass
class Shared:
    """What all subscribers of a run have in common.

    Attributes:
        jitter: returns random numbers from 0 to 1.
        limits: when a subscriber gives a stream up.
        balancer: where the next streams open; where it ends, they open at the server of the application.
        stopped: why subscribers do not reconnect.
        ends: numbers of streams and attempts that ended, by reason.
    """

    application: Application
    jitter: Callable[[], float]
    balancer: Iterator[Wire] = field(default_factory=lambda: iter(()))
    limits: Limits = field(default_factory=Limits)
    frames: Frames = field(default_factory=Frames)
    stopped: list[str] = field(default_factory=list)
    ends: Counter[str] = field(default_factory=Counter)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    is_closed: bool = False

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a step of a subscriber, unless all are closed. A task is kept until it ends."""
        if self.is_closed:
            work.close()
            return
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def close(self) -> None:
        """End all steps. No subscriber comes back after this."""
        self.is_closed = True
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.application.close()


class Subscriber:
    """One user of an application, with WebSockets one after the other.

    Attributes:
        begun_s: when the present attempt to connect began, after the wait before it.
    """

    __slots__ = ("_body", "_client", "_shared", "_socket", "_take", "_timer", "begun_s")

    def __init__(
        self, shared: Shared, body: Mapping[str, object], take: Callable[[list[Item]], None]
    ) -> None:
        """Create it without a connection.

        Args:
            body: of its `/connect`.
            take: called with received items.
        """
        self.begun_s = 0.0
        self._shared = shared
        self._body = body
        self._take = take
        self._client: ResumingClient[None]
        self._socket: _Socket | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def begin(self) -> None:
        """Register, and open the first stream.

        Raises:
            BenchFailed: the server refuses it, or cannot be reached.
        """
        made = await self._shared.application.call("/connect", self._body)
        self._client = ResumingClient(
            "",
            made["conn_id"],
            [None],
            self._shared.jitter,
            position=made["position"],
            can_renew=True,
            limits=self._shared.limits,
        )
        await self._go_on()

    async def _go_on(self) -> None:
        """Do the next step, and those that follow at once."""
        self._timer = None
        match self._client.next_step(time.monotonic()):
            case OpenStream() as opening:
                await self._open(opening)
            case RenewConnection(position=position):
                await self._renew(position)
            case Wait(wait_s=wait_s):
                self._timer = asyncio.get_running_loop().call_later(wait_s, self._try_again)
            case Stop(error=error):
                self._shared.stopped.append(str(error))

    def _try_again(self) -> None:
        self.begun_s = time.monotonic()
        self._start_going()

    def _start_going(self) -> None:
        self._shared.start(self._go_on())

    async def _open(self, opening: OpenStream[None]) -> None:
        wire = next(self._shared.balancer, self._shared.application.wire)
        socket = self._socket = _Socket(self, wire.upgrade(opening.address("/ws")), opening)
        try:
            async with asyncio.timeout(opening.timeout_s):
                await asyncio.get_running_loop().create_connection(lambda: socket, wire.host, wire.port)
        except OSError as error:  # `TimeoutError` is one, without a text.
            self.ended(socket, StreamEnded(LOST, str(error) or "no connection in time"))

    async def _renew(self, position: str) -> None:
        try:
            made = await self._shared.application.call("/connect", {**self._body, "since": position})
        except BenchFailed as error:
            self._shared.ends[str(error)] += 1
            self._client.ended(RenewalFailed(str(error)), time.monotonic())
        else:
            self._client.renewed(made["conn_id"], made["position"])
        await self._go_on()

    def received(self, socket: "_Socket", payload: bytes) -> None:
        """Hand the items of one list to the client, and those that it lets through to the user."""
        try:
            items = self._shared.frames.items(payload)
        except StreamEnded as end:
            self.ended(socket, end)
            return
        if wanted := self._client.received(items, time.monotonic()):
            self._take(wanted)

    def ended(self, socket: "_Socket", end: StreamEnded) -> None:
        """Record the end of the present stream. A socket that was dropped has no more to say."""
        if socket is self._socket:
            self._socket = None
            socket.drop()
            self._shared.ends[str(end) if end.status is None else f"HTTP {end.status}"] += 1
            self._client.ended(end, time.monotonic())
            self._start_going()

    def close(self) -> None:
        """Drop the stream and do not come back."""
        socket, self._socket = self._socket, None
        if socket is not None:
            socket.drop()
        if self._timer is not None:
            self._timer.cancel()


class _Socket(asyncio.Protocol):
    """One WebSocket of a subscriber. It ends if no bytes arrive for as long as its client allows."""

    __slots__ = ("_head", "_last_s", "_limits", "_reader", "_request", "_subscriber", "_timer", "_transport")

    def __init__(self, subscriber: Subscriber, request: bytes, limits: OpenStream[None]) -> None:
        """Create it without a connection.

        Args:
            request: opens it.
            limits: how long its answer, and bytes after that, may fail to come.
        """
        self._subscriber = subscriber
        self._request = request
        self._limits = limits
        self._last_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._head: bytes | None = b""
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._request)
        self._last_s = time.monotonic()
        self._watch(self._limits.timeout_s)

    def _watch(self, for_s: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(for_s, self._check_silence)

    def _check_silence(self) -> None:
        limit_s = self._limits.silence_s if self._head is None else self._limits.timeout_s
        left_s = self._last_s + limit_s - time.monotonic()
        if left_s > 0:
            self._watch(left_s)
        else:
            self._end(StreamEnded(LOST, f"silent for {limit_s:g} s"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(StreamEnded(LOST, str(exc or "connection lost")))

    def data_received(self, data: bytes) -> None:
        self._last_s = time.monotonic()
        try:
            if self._head is not None:
                data = self._read_head(self._head + data)
            for piece in self._reader.feed(data) if data else ():
                self._respond(piece)
        except BenchFailed as error:
            self._end(StreamEnded(LOST, str(error)))

    def _read_head(self, data: bytes) -> bytes:
        """Collect the head of the answer, or all of a refusal. Return the bytes after the head of a WebSocket."""
        head, end, rest = data.partition(_HEAD_END)
        self._head = data
        if len(head) > _HEAD_BYTES:
            raise BenchFailed("the head of an answer is too long")
        if not end:
            return b""
        if (status := status_of(head)) == 101:
            self._head = None
            return rest
        for answer in AnswerReader().feed(data):
            after = _RETRY_AFTER.search(head)
            retry_after = after[1].decode("latin-1") if after else ""
            self._end(refused(status, retry_after, answer.payload, time.time()))
        return b""

    def _respond(self, piece: Piece) -> None:
        if piece.opcode in DATA_OPCODES:
            self._subscriber.received(self, piece.payload)
        elif piece.opcode == PING and self._transport is not None:
            self._transport.write(masked(PONG_FRAME, piece.payload))
        elif piece.opcode == CLOSE:
            self._end(StreamEnded(int.from_bytes(piece.payload[:2]) or LOST, ""))

    def _end(self, end: StreamEnded) -> None:
        self._subscriber.ended(self, end)

    def drop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.abort()
