"""What the old process does: it holds everything, hands it over, and leaves it or goes on.

What can be copied is copied first, while everything is served: also the descriptors of streams, of which the other process
reads nothing yet. Then to hold everything takes four steps, each with a bound:

1. No stream is read. No request begins, those in progress end, and long polls are answered.
2. No stream is written to any more, so the position of its connection is valid.
3. What was written to streams is in the kernel.
4. What has changed since the copy is exported, and nothing changes any more.

A stream that is not ready within the bounds stays here. When the other process serves, it is closed with 1012, and its
client resumes there from its position. A handler that is not ready is different: what it changes would be lost. So then
nothing is handed over, and this process goes on.
"""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Container, Iterator
from dataclasses import dataclass, field
from itertools import count
from math import inf

from channelstream.close_codes import CloseCode
from channelstream.errors import CannotHandOver
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
    LEFT,
    LISTENING,
    METRICS,
    NONCES,
    NONCES_AT_ONCE,
    PART_BYTES,
    STATE,
    STREAMS,
    cut,
    encode,
    with_descriptors,
)

CATCH_UP_S = 5.0
"""How long streams that catch up are waited for while calls are served, in seconds."""
STEP_S = 0.002
"""Time between two looks, in seconds."""
LOOK_S = 0.02
"""Time between two looks at all connections while requests are in progress, in seconds: there may be many."""
NAMES = {StreamKind.WEBSOCKET: "websocket", StreamKind.DEFLATE: "websocket", StreamKind.SSE: "sse"}


@dataclass(slots=True)
class _Held:
    """What is held, and what of it is handed over.

    Attributes:
        slow: requests that were still being received when streams were held: `freeze` does not wait for them.
        looked_s: when all connections were looked at last.
        unread: streams of which nothing is read.
        unsettled: those of them that were not settled when they were last looked at.
        streams: those of them to which nothing is written either.
    """

    slow: set[object] = field(default_factory=set)
    looked_s: float = -inf
    unread: dict[SocketStream, None] = field(default_factory=dict)
    unsettled: list[SocketStream] = field(default_factory=list)
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
        self._numbers = count()

    @property
    def _all_held(self) -> _Held:
        assert self._held is not None  # noqa: S101 - `hold_streams` is called before
        return self._held

    # -- holding

    async def hold_streams(self) -> None:
        """Pause periodic work, of which a round may take long, and stop to read streams, which may be many.

        Calls are still served. So streams that catch up, and requests that are being received, are waited for here first:
        in `freeze` they have less time.
        """
        parts, receiving = self._parts, self._receiving()
        await parts.housekeeping.pause()
        await parts.webhooks.stop(is_replaced=True)
        await self._until(lambda: receiving.isdisjoint(self._receiving()), parts.pause_s)
        behind = [stream for stream in self._open_streams() if not stream.is_settled]
        await self._until(lambda: all(not each.is_open or each.is_settled for each in behind), CATCH_UP_S)
        await parts.save_figures()
        held = self._held = _Held(slow=receiving & self._receiving())
        parts.streams.is_held = True
        await Slices(asyncio.get_running_loop().time).each(
            self._open_streams(), lambda stream: self._hold(held, stream)
        )

    async def freeze(self) -> None:
        """Hold everything, after `hold_streams`.

        Raises:
            CannotHandOver: a request does not end; `thaw` continues as before.
        """
        parts, held = self._parts, self._all_held
        parts.listener.pause()
        parts.metrics_listener.pause()
        parts.streams.heartbeat.stop()
        # The loop may have accepted sockets whose protocols it calls in its next turn; they move as well.
        await asyncio.sleep(0)
        await parts.http_server.hold()
        parts.streams.refuse_waiting()
        await self._settle(held)
        # What was answered in this turn looks for the request behind it in the next one, and then it is idle.
        await asyncio.sleep(0)
        await parts.node.reports.settle(parts.pause_s / 3)
        await self._suspend(held)
        waiting = [stream for stream in held.streams if stream.buffered_bytes()]
        await self._until(lambda: not any(map(_is_waiting, waiting)), parts.pause_s / 3)

    @staticmethod
    def _hold(held: _Held, stream: SocketStream) -> None:
        held.unread[stream] = None
        held.unsettled.append(stream)
        stream.hold()

    async def _settle(self, held: _Held) -> None:
        """Wait until nothing is in progress that changes anything, and a while for streams that catch up.

        A request that is still being received then is not completed here: what its handler would change may have been sent
        already.
        """
        parts, pause_s = self._parts, self._parts.pause_s
        in_time = await self._until(lambda: self._is_settled(held, bodies=True), pause_s)
        if in_time and held.slow.isdisjoint(self._receiving()):
            return
        await parts.http_server.hold_bodies()
        if not await self._until(lambda: self._is_settled(held, streams=in_time), pause_s / 3):
            raise CannotHandOver(f"a request takes longer than {pause_s:g} s (upgrade_pause_s)")

    def _receiving(self) -> set[object]:
        """Return the requests that are being received."""
        accepted = self._parts.http_server.sockets
        found = {each.receiving for each in accepted if isinstance(each, HttpConnection)}
        return found - {None}

    def _is_settled(self, held: _Held, *, bodies: bool = False, streams: bool = True) -> bool:
        """Whether nothing is in progress that changes anything.

        Args:
            bodies: a request that is being received counts as well, unless it is slow.
            streams: so does a stream that catches up.
        """
        is_working = self._is_working() or (bodies and not self._receiving() <= held.slow)
        now_s = asyncio.get_running_loop().time()
        if is_working and now_s < held.looked_s + LOOK_S:
            return False
        held.looked_s = now_s
        for stream in self._open_streams(but=held.unread):
            self._hold(held, stream)
        self._answer_polls()
        if is_working:
            return False
        held.unsettled = [each for each in held.unsettled if each.is_open and not each.is_settled]
        return not any(streams or each.is_busy for each in held.unsettled)

    def _is_working(self) -> bool:
        """Whether a handler runs, a stream is about to open, or the node is in the middle of a change."""
        parts = self._parts
        is_called = parts.http_server.works(Work.HANDLER) or parts.streams.is_opening
        return is_called or not parts.node.move.is_settled

    def _answer_polls(self) -> None:
        for stream in [each.stream for each in self._parts.node.hub.connections.values()]:
            if isinstance(stream, PollStream):
                stream.caught_up()

    def _open_streams(self, but: Container[object] = ()) -> list[SocketStream]:
        """Return the streams that have a socket of their own, except those that are known."""
        found = [each.stream for each in self._parts.node.hub.connections.values()]
        return [
            stream
            for stream in found
            if stream not in but and isinstance(stream, SocketStream) and stream.is_open
        ]

    async def _suspend(self, held: _Held) -> None:
        def suspend(stream: SocketStream) -> None:
            if stream.is_open:
                held.streams.append(stream)
                stream.suspend()

        self._parts.node.move.note_epochs()
        await Slices(asyncio.get_running_loop().time).each(list(held.unread), suspend)

    async def _until(self, is_reached: Callable[[], bool], within_s: float) -> bool:
        """Return whether a condition is reached in time."""
        time = asyncio.get_running_loop().time
        begun_s = now_s = time()
        while not is_reached():
            looked_s, now_s = now_s, time()
            if now_s >= begun_s + within_s:
                return False
            # At least as long as the look: what is waited for needs time, too.
            await asyncio.sleep(max(STEP_S, now_s - looked_s))
            now_s = time()
        return True

    # -- handing over

    async def copy(self) -> AsyncIterator[Part]:
        """Yield the parts of the state and the connections, before `freeze`: the pause grows with their changes only."""
        move = self._parts.node.move
        async for part in cut(STATE, move.copied_state()):
            yield part
        async for part in cut(CONNECTIONS, _in_turns(move.copied_connections())):
            yield part
        async for part in self._copied_streams():
            yield part

    async def _copied_streams(self) -> AsyncIterator[Part]:
        """Yield the streams that are new since the last call, and the numbers of those that have ended."""
        copied, duplicates = self._parts.streams.copied, list[int]()
        ended = [stream for stream in copied if isinstance(stream, SocketStream) and not stream.is_open]
        if ended:
            yield Part(LEFT, encode([copied.pop(stream) for stream in ended]))
        new = self._duplicated(self._open_streams(but=copied), duplicates)
        try:
            for part in with_descriptors(STREAMS, new):
                yield part
                _close(duplicates, len(part.descriptors))
                await asyncio.sleep(0)
        finally:
            _close(duplicates, len(duplicates))

    def _duplicated(
        self, streams: list[SocketStream], duplicates: list[int]
    ) -> Iterator[tuple[int, StreamRecord, int]]:
        """Yield the records of streams, with descriptors that stay when a stream ends before they are sent."""
        for stream in (each for each in streams if each.is_movable):
            record = stream.record(None)
            duplicates.append(_duplicate(stream.descriptor()))
            self._parts.streams.copied[stream] = next(self._numbers)
            yield duplicates[-1], record, record.size

    async def parts(self) -> AsyncIterator[Part]:
        """Yield the rest; the descriptors stay open here.

        Raises:
            CannotHandOver: the engine cannot move.
        """
        parts, held = self._parts, self._all_held
        for kind, listener in ((LISTENING, parts.listener), (METRICS, parts.metrics_listener)):
            yield Part(kind, encode(listener.owns_path), tuple(each.fileno() for each in listener.paused))
        # First: an engine of many nodes executes commands of the others until then.
        async for part in cut(STATE, parts.node.move.moved_state()):
            yield part
        for app_id, nonces in parts.nonces.items():
            for row in nonces.rows(NONCES_AT_ONCE):
                yield Part(NONCES, encode((app_id, [row])))
                await asyncio.sleep(0)
        async for part in self._moved_streams(held):
            yield part
        for part in with_descriptors(HTTP, self._http_records(held)):
            yield part
            await asyncio.sleep(0)
        self.tally["http"] = len(held.moved_http)
        self.tally["ended"] = len(held.streams) - len(held.moved_streams)
        async for part in cut(CONNECTIONS, _in_turns(parts.node.move.moved_connections())):
            yield part

    async def _moved_streams(self, held: _Held) -> AsyncIterator[Part]:
        """Yield the numbers of the streams that do not move as they were copied, and those that are not copied."""
        copied = self._parts.streams.copied
        left, new = dict(copied), list[tuple[int, StreamRecord, int]]()
        slices = Slices(asyncio.get_running_loop().time)
        for stream in held.streams:
            if not stream.is_movable:
                continue
            unfinished = stream.unfinished()
            if stream in copied and unfinished is None:
                del left[stream]
            elif (record := stream.record(unfinished)).size <= PART_BYTES:
                new.append((stream.descriptor(), record, record.size))
            else:
                continue
            held.moved_streams.append(stream)
            await slices.due()
        kinds = Counter(NAMES[stream.kind] for stream in held.moved_streams)
        self.tally |= {name: kinds[name] for name in NAMES.values()}
        yield Part(LEFT, encode(list(left.values())))
        for part in with_descriptors(STREAMS, new):
            yield part

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
            await self._parts.node.move.proceed()
        finally:
            await self._let_go()

    async def _let_go(self) -> None:
        parts, held, self._held = self._parts, self._held, None
        parts.streams.copied.clear()
        parts.housekeeping.resume()
        parts.webhooks.start()
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
        parts, held = self._parts, self._all_held
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
    return stream.is_open and stream.is_settled and stream.buffered_bytes() > 0


def _duplicate(descriptor: int) -> int:
    try:
        return os.dup(descriptor)
    except OSError as error:
        raise CannotHandOver("this process may open too few descriptors (LimitNOFILE)") from error


def _close(descriptors: list[int], count: int) -> None:
    """Close the first of these descriptors, and remove them."""
    for descriptor in descriptors[:count]:
        os.close(descriptor)
    del descriptors[:count]


async def _in_turns(records: Iterator[bytes]) -> AsyncIterator[bytes]:
    slices = Slices(asyncio.get_running_loop().time)
    for record in records:
        yield record
        await slices.due()
