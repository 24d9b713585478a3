"""What the old process does: it holds everything, hands it over, and leaves it or goes on.

What can be copied is copied first, while everything is served: also the descriptors of streams, of which the other process
reads nothing yet. Then everything is held (`holding.py`), and what has changed since the copy is exported.

A stream that is not ready in time stays here. When the other process serves, it is closed with 1012, and its client resumes
there from its position.
"""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from itertools import count

from channelstream.close_codes import CloseCode
from channelstream.errors import CannotHandOver
from channelstream.http.connection import HttpConnection
from channelstream.slices import Slices, in_turns
from channelstream.transports.moving import StreamKind, StreamRecord
from channelstream.transports.socket_stream import SocketStream
from channelstream.upgrade.holding import Holding, open_streams
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
    REVOCATIONS,
    REVOCATIONS_AT_ONCE,
    STATE,
    STREAMS,
    cut,
    encode,
    with_descriptors,
)

NAMES = {StreamKind.WEBSOCKET: "websocket", StreamKind.DEFLATE: "websocket", StreamKind.SSE: "sse"}


class Giver:
    """The old process.

    Attributes:
        tally: what is handed over, and how many streams are closed with 1012.
    """

    def __init__(self, parts: ServerParts) -> None:
        self.tally: dict[str, int] = {}
        self._parts = parts
        self._holding = Holding(parts)
        self._numbers = count()
        self._moved_streams: list[SocketStream] = []
        self._moved_http: list[HttpConnection] = []

    async def hold_streams(self) -> None:
        """Read no stream any more (`Holding.hold_streams`)."""
        await self._holding.hold_streams()

    async def freeze(self) -> None:
        """Hold everything, after `hold_streams` (`Holding.freeze`).

        Raises:
            CannotHandOver: something in progress does not end; `thaw` continues as before.
        """
        await self._holding.freeze()

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
        """Yield the streams that are new since the last call; those that have ended are named at the end."""
        duplicates = list[int]()
        new = self._duplicated(open_streams(self._parts, but=self._parts.streams.copied), duplicates)
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
            self._parts.streams.copied[stream] = stream.copied(next(self._numbers))
            yield duplicates[-1], record, record.size

    async def parts(self) -> AsyncIterator[Part]:
        """Yield the rest; the descriptors stay open here.

        Raises:
            CannotHandOver: the engine cannot move.
        """
        parts = self._parts
        for kind, listener in ((LISTENING, parts.listener), (METRICS, parts.metrics_listener)):
            yield Part(kind, encode(listener.owns_path), tuple(each.fileno() for each in listener.paused))
        # First: an engine of many nodes executes commands of the others until then.
        async for part in cut(STATE, parts.node.move.moved_state()):
            yield part
        for app_id, nonces in parts.nonces.items():
            for row in nonces.rows(NONCES_AT_ONCE):
                yield Part(NONCES, encode((app_id, [row])))
                await asyncio.sleep(0)
        async for revocations in in_turns(parts.node.revocations.moved(), REVOCATIONS_AT_ONCE):
            yield Part(REVOCATIONS, encode(revocations))
        async for part in self._streams_to_move():
            yield part
        for part in with_descriptors(HTTP, self._http_records()):
            yield part
            await asyncio.sleep(0)
        self.tally["http"] = len(self._moved_http)
        self.tally["ended"] = len(self._holding.streams) - len(self._moved_streams)
        async for part in cut(CONNECTIONS, _in_turns(parts.node.move.moved_connections())):
            yield part

    async def _streams_to_move(self) -> AsyncIterator[Part]:
        """Yield the numbers of the streams that do not move as they were copied, and those that are not copied."""
        copied = self._parts.streams.copied
        left, new = dict(copied), list[tuple[int, StreamRecord, int]]()
        slices = Slices(asyncio.get_running_loop().time)
        for stream in self._holding.streams:
            if not stream.is_movable:
                continue
            unfinished, before = stream.unfinished(), copied.get(stream)
            if before is not None and unfinished is None and before == stream.copied(before.number):
                del left[stream]
            elif (record := stream.record(unfinished)).size <= PART_BYTES:
                new.append((stream.descriptor(), record, record.size))
            else:
                continue
            self._moved_streams.append(stream)
            await slices.due()
        kinds = Counter(NAMES[stream.kind] for stream in self._moved_streams)
        self.tally |= {name: kinds[name] for name in NAMES.values()}
        yield Part(LEFT, encode([each.number for each in left.values()]))
        for part in with_descriptors(STREAMS, new):
            yield part

    def _http_records(self) -> Iterator[tuple[int, bytes, int]]:
        for accepted in self._parts.http_server.sockets:
            if not isinstance(accepted, HttpConnection):
                continue
            unread = accepted.unread()
            if unread is not None and len(unread[1]) <= PART_BYTES:
                descriptor, received = unread
                self._moved_http.append(accepted)
                yield descriptor, received, len(received)

    # -- the end

    async def thaw(self) -> None:
        """Serve as before; the other process has ended."""
        try:
            await self._parts.node.move.proceed()
        finally:
            self._parts.streams.copied.clear()
            # Streams that end later are not kept: this object stays until the next upgrade.
            holding, self._holding = self._holding, Holding(self._parts)
            self._moved_streams, self._moved_http = [], []
            await holding.let_go()

    async def release(self) -> None:
        """Leave what is handed over to the other process; what is left here ends with the drain of the server."""
        parts = self._parts
        parts.listener.leave()
        parts.metrics_listener.leave()
        slices = Slices(asyncio.get_running_loop().time)
        await slices.each(self._moved_http, HttpConnection.leave)
        moved = set(self._moved_streams)
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

        await slices.each(self._holding.streams, leave)


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
