"""What the old process does: it holds everything, hands it over, and leaves it or goes on.

To hold everything takes four steps, each with a bound:

1. No request begins, those in progress end, and long polls are answered.
2. No stream is written to any more, so the position of its connection is valid.
3. What was written to streams is in the kernel.
4. The state is exported, which nothing changes any more.

A stream that is not ready within the bounds stays here. When the other process serves, it is closed with 1012, and its
client resumes there from its position. A handler that is not ready is different: what it changes would be lost. So then
nothing is handed over, and this process goes on.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field

from channelstream.core.connection import Stream
from channelstream.errors import CannotHandOver, CloseCode
from channelstream.http.connection import HttpConnection
from channelstream.http.phase import Work
from channelstream.slices import Slices
from channelstream.transports.longpoll import PollStream
from channelstream.transports.moving import StreamKind, StreamRecord
from channelstream.transports.socket_stream import SocketStream
from channelstream.upgrade.line import Part
from channelstream.upgrade.server_parts import ServerParts
from channelstream.upgrade.snapshot import (
    CONNECTIONS,
    HTTP,
    LISTENING,
    METRICS,
    PART_BYTES,
    STATE,
    STREAMS,
    cut,
    encode,
    with_descriptors,
)

STEP_S = 0.002
"""Time between two looks, in seconds."""
NAMES = {StreamKind.WEBSOCKET: "websocket", StreamKind.DEFLATE: "websocket", StreamKind.SSE: "sse"}


@dataclass(slots=True)
class _Held:
    """What is held, and what of it is handed over.

    Attributes:
        unread: streams of which nothing is read.
        streams: those of them to which nothing is written either.
    """

    unread: dict[SocketStream, None] = field(default_factory=dict)
    streams: list[SocketStream] = field(default_factory=list)
    moved_streams: list[SocketStream] = field(default_factory=list)
    moved_http: list[HttpConnection] = field(default_factory=list)


class Giver:
    """The old process.

    Attributes:
        tally: what is handed over, and how many streams are closed with 1012.
    """

    def __init__(self, parts: ServerParts) -> None:
        self.tally: dict[str, int] = {}
        self._parts = parts
        self._held: _Held | None = None

    # -- holding

    async def freeze(self) -> None:
        """Hold everything.

        Raises:
            CannotHandOver: a request does not end; `thaw` continues as before.
        """
        parts = self._parts
        # First: a round may take long, and nothing waits for it yet.
        await parts.housekeeping.pause()
        held = self._held = _Held()
        parts.listener.pause()
        parts.metrics_listener.pause()
        parts.streams.heartbeat.stop()
        parts.streams.is_held = True
        await parts.http_server.hold()
        await self._settle(held)
        await self._suspend(held)
        await self._until(lambda: not any(map(_is_waiting, self._movable(held.streams))), parts.pause_s / 3)

    async def _settle(self, held: _Held) -> None:
        """Wait until nothing is in progress that changes anything, and a while for streams that catch up.

        A request that is still being received then is not completed here: what its handler would change may have been sent
        already.
        """
        parts, pause_s = self._parts, self._parts.pause_s
        if await self._until(lambda: self._is_settled(held, Work.HANDLER, Work.RECEIVING), pause_s):
            return
        await parts.http_server.hold_bodies()
        if not await self._until(lambda: self._is_settled(held, Work.HANDLER, streams=False), pause_s / 3):
            raise CannotHandOver(f"a request takes longer than {pause_s:g} s (upgrade_pause_s)")

    def _is_settled(self, held: _Held, *kinds: Work, streams: bool = True) -> bool:
        parts = self._parts
        found = self._open_streams()
        for stream in found:
            if stream not in held.unread:
                held.unread[stream] = None
                stream.hold()
        if parts.http_server.works(*kinds) or parts.streams.is_opening or not parts.node.is_settled:
            return False
        if streams:
            return all(stream.is_settled for stream in found)
        return not any(stream.is_busy for stream in found)

    def _open_streams(self) -> list[SocketStream]:
        """Answer the long polls, and return all streams that have a socket of their own."""
        found: list[SocketStream] = []
        for connection in list(self._parts.node.hub.connections.values()):
            stream: Stream | None = connection.stream
            if isinstance(stream, PollStream):
                stream.caught_up()
            elif isinstance(stream, SocketStream) and stream.is_open:
                found.append(stream)
        return found

    async def _suspend(self, held: _Held) -> None:
        def suspend(stream: SocketStream) -> None:
            if stream.is_open:
                held.streams.append(stream)
                stream.suspend()

        await Slices(asyncio.get_running_loop().time).each(list(held.unread), suspend)

    @staticmethod
    def _movable(streams: list[SocketStream]) -> list[SocketStream]:
        return [stream for stream in streams if stream.is_open and stream.is_settled]

    async def _until(self, is_reached: Callable[[], bool], within_s: float) -> bool:
        """Return whether a condition is reached in time."""
        time = asyncio.get_running_loop().time
        until_s = time() + within_s
        while not is_reached():
            if time() >= until_s:
                return False
            await asyncio.sleep(STEP_S)
        return True

    # -- handing over

    async def copy(self) -> AsyncIterator[Part]:
        """Yield the parts of the state and the connections, before `freeze`: the pause grows with their changes only."""
        node = self._parts.node
        async for part in cut(STATE, node.copied_state()):
            yield part
        async for part in cut(CONNECTIONS, _in_turns(node.copied_connections())):
            yield part

    async def parts(self) -> AsyncIterator[Part]:
        """Yield the rest; the descriptors stay open here.

        Raises:
            CannotHandOver: the engine cannot move.
        """
        parts, held = self._parts, self._held
        if held is None:
            return
        for kind, listener in ((LISTENING, parts.listener), (METRICS, parts.metrics_listener)):
            yield Part(kind, encode(listener.owns_path), tuple(each.fileno() for each in listener.paused))
        # First: an engine of many nodes executes commands of the others until then.
        async for part in cut(STATE, parts.node.moved_state()):
            yield part
        for part in with_descriptors(STREAMS, self._stream_records(held)):
            yield part
            await asyncio.sleep(0)
        for part in with_descriptors(HTTP, self._http_records(held)):
            yield part
            await asyncio.sleep(0)
        self.tally["http"] = len(held.moved_http)
        self.tally["ended"] = len(held.streams) - len(held.moved_streams)
        async for part in cut(CONNECTIONS, _in_turns(parts.node.moved_connections())):
            yield part

    def _stream_records(self, held: _Held) -> Iterator[tuple[int, StreamRecord, int]]:
        self.tally |= dict.fromkeys(NAMES.values(), 0)
        for stream in held.streams:
            record = stream.record() if stream.is_open else None
            if record is None or record.size > PART_BYTES:
                continue
            held.moved_streams.append(stream)
            self.tally[NAMES[record.kind]] += 1
            yield stream.descriptor(), record, record.size

    def _http_records(self, held: _Held) -> Iterator[tuple[int, bytes, int]]:
        for accepted in self._parts.http_server.sockets:
            if not isinstance(accepted, HttpConnection):
                continue
            unread = accepted.unread()
            if unread is not None and len(unread[1]) <= PART_BYTES:
                descriptor, received = unread
                held.moved_http.append(accepted)
                yield descriptor, received, len(received)

    # -- the end

    async def thaw(self) -> None:
        """Serve as before; the other process has ended."""
        try:
            await self._parts.node.proceed()
        finally:
            await self._let_go()

    async def _let_go(self) -> None:
        parts, held, self._held = self._parts, self._held, None
        parts.housekeeping.resume()
        if held is None:
            return
        parts.streams.is_held = False

        def proceed(stream: SocketStream) -> None:
            if stream.is_open:
                stream.proceed()

        slices = Slices(asyncio.get_running_loop().time)
        await slices.each(held.streams, proceed)
        await slices.each(list(held.unread), lambda stream: stream.let_go())
        parts.streams.heartbeat.start()
        await parts.http_server.let_go()
        await parts.listener.resume()
        await parts.metrics_listener.resume()

    async def release(self) -> None:
        """Leave what is handed over to the other process; what is left here ends with the drain of the server."""
        parts, held = self._parts, self._held
        if held is None:
            return
        parts.listener.leave()
        parts.metrics_listener.leave()
        slices = Slices(asyncio.get_running_loop().time)
        await slices.each(held.moved_http, HttpConnection.leave)
        moved = set(held.moved_streams)
        parts.streams.is_held = False

        def leave(stream: SocketStream) -> None:
            if not stream.is_open:
                return
            if stream in moved:
                stream.leave()
            else:
                # Unread bytes would reset the socket, and the reset may overtake the close frame.
                stream.let_go()
                stream.close(CloseCode.RESTARTING, "the server restarts")

        await slices.each(held.streams, leave)


def _is_waiting(stream: SocketStream) -> bool:
    return stream.buffered_bytes() > 0


async def _in_turns(records: Iterator[bytes]) -> AsyncIterator[bytes]:
    slices = Slices(asyncio.get_running_loop().time)
    for record in records:
        yield record
        await slices.due()
