"""What all transports share: a stream attaches to a connection, catches up, goes live, stalls, and is lost.

A stream is the bytes' way out (`core.connection.Stream`); a session is its life with the connection. A connection has
at most one session: a newer one replaces the older.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress

from channelstream.core.batch import BufferBatch
from channelstream.core.changes import compacted, forms_for
from channelstream.core.codec import ENCLOSE, catchup_item, item, resumed_item
from channelstream.core.connection import Connection, ConnectionState, Stream
from channelstream.core.events import Dialect
from channelstream.core.log import Entry, advance_positions
from channelstream.core.position import Offsets, Position, max_offsets, min_offsets, shard_of, with_offset
from channelstream.engines.base import PRIVATE, Replay
from channelstream.errors import CloseCode, Unavailable
from channelstream.node import Node

logger = logging.getLogger(__name__)

CLOSED_BY_CLIENT = "closed by the client"
LINE_LOST = "the line was lost"

CHUNK = 256
"""Entries read from the log at once while catching up."""
PIECE_BYTES = 65_536
"""Bytes written at once while catching up, or one entry that is longer: what a slow client may hold up."""
BUFFERED_ENTRIES = 1000
"""Entries kept for a connection while its engine reads; more are read from the log again."""
BUFFERED_BYTES = 65_536
"""Size of the entries that are written at once as a stream goes live, or one that is larger; more are read again, too."""


class Session:
    """The life of one stream with its connection."""

    __slots__ = ("_drained", "_heard", "_node", "_paused", "_stream", "_task", "connection")

    def __init__(self, node: Node, connection: Connection, stream: Stream) -> None:
        self.connection = connection
        self._node = node
        self._stream = stream
        self._heard: Offsets | None = None  # What the connection had heard when it lost this stream.
        self._paused = False
        self._drained: asyncio.Event | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def is_current(self) -> bool:
        """Whether the connection still has this stream."""
        return self.connection.stream is self._stream

    def start(self, since: str | None) -> None:
        """Attach: close the older stream of the connection, catch up, then go live.

        Args:
            since: the position the client asks to resume from; empty if it has none yet, None if it is of an older
                generation and cannot resume.
        """
        older = self.connection.stream
        buffer = BufferBatch(BUFFERED_ENTRIES)
        self._node.hub.attach(self.connection, self._stream, buffer)
        self._node.attached(self.connection)
        if older is not None:
            older.close(CloseCode.REPLACED, "replaced by a newer stream of this connection")
        self._run(self._attach(buffer, since))

    def pause(self) -> None:
        """The transport is full: write no more, and read from the log once it has drained."""
        self._paused = True
        self._node.stalls += 1
        if self._node.observer is not None:
            self._node.observer.stalled(self.connection)
        if self.is_current and self.connection.state is ConnectionState.LIVE:
            buffer = BufferBatch(0)
            self._node.hub.stall(self.connection, buffer)
            self._run(self._recover(buffer))

    def resume(self) -> None:
        """The transport has drained."""
        self._paused = False
        if self._drained is not None:
            self._drained.set()

    def ended(self, grace_s: float, code: int | None, reason: str) -> None:
        """The stream is gone for this reason, with this close code or without one.

        A client's good-bye ends the whole connection, and is remembered with that.
        """
        if self.is_current and code != CloseCode.NORMAL:
            self._node.record_ending(self.connection, code, reason, final=False)
        self.lost(grace_s)

    def lost(self, grace_s: float) -> None:
        """The stream is gone; the connection waits for another one for so many seconds."""
        if self.is_current and self.connection.state is not ConnectionState.CLOSED:
            self._node.detached(self.connection, grace_s)
            self._heard = self.connection.delivered
        self.resume()

    def mark_undelivered(self, delivered: Offsets) -> None:
        """Count as not heard what was written to a stream whose client had gone; the next stream gets it.

        Not if a next one has already been and was sent more: what it has heard must not come twice.
        """
        if self.connection.stream is None and self.connection.delivered == self._heard:
            self.connection.delivered = min_offsets(self.connection.delivered, delivered)

    def left(self) -> None:
        """The client has said good-bye on what was its connection's stream till now: the connection ends."""
        self._node.end_soon(self.connection, CloseCode.NORMAL, CLOSED_BY_CLIENT)

    def _run(self, work: Coroutine[None, None, None]) -> None:
        self._task = asyncio.get_running_loop().create_task(self._unless_out_of_reach(work))

    async def _unless_out_of_reach(self, work: Coroutine[None, None, None]) -> None:
        """Do it; a new stream whose client cannot be told what it missed is refused, to come back later."""
        try:
            await work
        except Unavailable as error:
            if self.is_current:
                self._stream.close(CloseCode.OVERLOADED, error.message)
        except Exception:
            # A stream that stays open and is sent nothing would be worse than one that ends: its client comes back.
            logger.exception("a stream has failed while it caught up")
            if self.is_current:
                self._stream.close(CloseCode.OVERLOADED, "what was missed could not be sent")

    # -- catching up

    async def _attach(self, buffer: BufferBatch, since: str | None) -> None:
        # An application may register an ended connection again while its client comes back with the id it has.
        await self._node.registered(self.connection)
        if not self.is_current:
            return
        if since is None:
            await self._catch_up(buffer, {}, catchup_item, strict=False)
            return
        head, shards = await self._head()
        if not self.is_current:
            return
        starts = self._resume_from(since, head, shards)
        replay = await self._node.engine.replay(self.connection.user, starts, limit=0)
        if not self.is_current:
            return
        if self._node.observer is not None:
            self._node.observer.replayed(self.connection, (), replay.lost)
        if replay.lost:
            self.connection.delivered = await self._skip_lost(starts, replay)
            if not self.is_current:
                return
        position = str(Position(head.epochs, self.connection.delivered))
        self._send_resumed(position, starts, replay.lost)
        await self._catch_up(buffer, starts, item, strict=True)
        if self.is_current and (replay.lost or not since):
            self._stream.caught_up()

    async def _head(self) -> tuple[Position, set[int]]:
        """Return the end of the log in every shard that this connection reads, and which these are.

        Of the others, which may be out of reach, it is what this node has heard: they have nothing for the connection.
        """
        while True:
            shards, names = self._shards(), (self.connection.user, *self._joined())
            head = await self._node.engine.head(names)
            if self._shards() <= shards:  # It may have joined more meanwhile.
                return head, shards

    def _shards(self) -> set[int]:
        return {self._shard(name) for name in (PRIVATE, *self._joined())}

    async def _skip_lost(self, starts: dict[str, int], replay: Replay) -> Offsets:
        """Return up to where the client misses nothing but what it is told is lost; `starts` of the lost go on after it.

        Told the position it asked for, a long poll would come back with that, and be told of the same loss at once.
        """
        at = replay.read_to
        kept = [name for name in starts if name not in replay.lost]
        while kept and self.is_current:
            read = await self._node.engine.replay(
                self.connection.user, {name: max(at[self._shard(name)], starts[name]) for name in kept}, CHUNK
            )
            if read.lost:
                break
            delivered = [entry for entry in read.entries if self.connection.receives(entry.event)]
            at = read.read_to
            for entry in reversed(delivered):
                at = with_offset(at, entry.shard, entry.first_offset - 1)
            if delivered or at == read.head:
                break
            await asyncio.sleep(0)  # As in `_catch_up`.
        # What is lost is not replayed.
        after = max_offsets(at, replay.head)
        starts |= {name: after[self._shard(name)] for name in replay.lost}
        return self._whole(starts, at)

    def _joined(self) -> list[str]:
        """Return the channels whose log can be read: a channel that is being joined may not be there yet."""
        return [name for name in self.connection.channels if name not in self.connection.joining]

    def _shard(self, name: str) -> int:
        """Return the shard of a channel, or of the connection's private messages."""
        return shard_of(self.connection.user if name == PRIVATE else name, len(self.connection.delivered))

    def _whole(self, starts: Mapping[str, int], read_to: Offsets) -> Offsets:
        """Return up to where a read from `starts` has everything: what was joined while it went on is not in it."""
        for name, read_range in self.connection.channels.items():
            if name not in starts:
                shard = self._shard(name)
                read_to = with_offset(read_to, shard, min(read_to[shard], read_range.joined))
        return read_to

    def _resume_from(self, since: str, head: Position, shards: set[int]) -> dict[str, int]:
        """Return where each channel begins for a resuming client; -1 where nothing can be proven.

        What lies before a channel's reach was never this connection's: that is neither sent nor lost.
        """
        asked = Position.parse(since) if since else head
        known = [-1] * len(head.offsets) if asked is None else _known(asked, head, shards)
        self.connection.delivered = tuple(
            last if offset < 0 else offset for offset, last in zip(known, head.offsets, strict=True)
        )
        read_ranges = {name: self.connection.channels[name] for name in self._joined()}
        read_ranges[PRIVATE] = self.connection.private
        return {name: read_range.start(known[self._shard(name)]) for name, read_range in read_ranges.items()}

    def _send_resumed(self, position: str, starts: dict[str, int], lost: frozenset[str]) -> None:
        recovered = sorted(name for name in starts if name not in lost)
        self._stream.write_first(resumed_item(position, recovered, sorted(lost)), position)

    async def _recover(self, buffer: BufferBatch) -> None:
        """Catch up after the client was too slow, once it has read what it was sent."""
        await self._drain(buffer)
        await self._catch_up(buffer, {}, item, strict=True)

    async def _catch_up(
        self,
        buffer: BufferBatch,
        starts: dict[str, int],
        encode: Callable[[Entry, Dialect], bytes],
        strict: bool,
    ) -> None:
        """Write what the log holds for this connection until nothing is left, then go live.

        Args:
            held: the connection's batch, where live events gather meanwhile.
            starts: per channel, where to begin if that is later than what the connection has heard.
            encode: how an entry looks to this client.
            strict: what the log no longer holds ends the stream, since the client believes it missed nothing.
        """
        connection = self.connection
        while self.is_current:
            buffer.reset()
            changes = self._node.hub.changes.number
            progress = self._progress(starts)
            replay = await self._read(progress)
            if replay is None or not self.is_current:
                return
            if strict and replay.lost:
                self._stream.close(CloseCode.TOO_SLOW, "too slow: the log no longer reaches back")
                return
            if self._node.observer is not None:
                self._node.observer.replayed(connection, replay.entries, ())
            read_to = self._whole(progress, replay.read_to)
            entries = [entry for entry in replay.entries if entry.offset <= read_to[entry.shard]]
            written = await self._write(buffer, entries, encode, self._changes_after(changes, replay.head))
            if not self.is_current:
                return
            if not written:
                continue
            before, connection.delivered = connection.delivered, max_offsets(connection.delivered, read_to)
            if self._is_behind_client():
                await self._level()
            elif self._paused:
                # By a write that was not ours, such as an answer to a ping; live, nothing would bound what follows.
                await self._drain(buffer)
            elif read_to == replay.head and not buffer.overflowed and self._go_live(buffer, changes):
                return
            elif read_to != replay.read_to and connection.delivered == before:
                # A channel that is being joined cannot be read yet, and nothing else is left: reading on would find nothing.
                await self._node.joined(connection)
            # An engine that answers at once would let nothing else happen, such as what is waited for here.
            await asyncio.sleep(0)

    def _go_live(self, buffer: BufferBatch, changes: int) -> bool:
        """Write events as they come from now on, after those held; False where that is too much at once."""
        connection, recent = self.connection, self._node.hub.changes.after(changes)
        if recent is None:
            return False
        newer = compacted(
            [entry for entry in buffer.buffered if entry.offset > connection.delivered[entry.shard]]
        )
        if len(newer) > 1 and sum(entry.size for entry in newer) > BUFFERED_BYTES:
            return False  # It would be one write; from the log it is read piece by piece.
        forms = forms_for(connection.user, newer, recent)
        self._node.hub.go_live(connection, advance_positions(connection.delivered, forms))
        return True

    def _changes_after(self, number: int, head: Offsets) -> Callable[[], list[Entry] | None]:
        """Return what tells the edits and deletions that a read up to `head`, begun after so many, does not know of."""

        def changes() -> list[Entry] | None:
            recent = self._node.hub.changes.after(number)
            return recent and [change for change in recent if change.offset > head[change.shard]]

        return changes

    def _is_behind_client(self) -> bool:
        """Whether the client has heard more of a shard than this node, which hears of it only what it must."""
        delivered = self.connection.delivered
        return max_offsets(delivered, self._node.hub.offsets) != self._node.hub.offsets

    async def _level(self) -> None:
        """Let this node hear as much as the client has of shards that this connection reads nothing of.

        Where such a shard is out of reach, or the client's number is none of ours, it is lowered: a number that is too low
        only lets more be read again, while one that is too high would hide events of a channel that is joined later.
        """
        pairs = zip(self.connection.delivered, self._node.hub.offsets, strict=True)
        ahead = [shard for shard, (delivered, known) in enumerate(pairs) if delivered > known]
        with suppress(Unavailable):
            await self._node.engine.catch_up(ahead)
        self.connection.delivered = min_offsets(self.connection.delivered, self._node.hub.offsets)

    async def _read(self, starts: dict[str, int]) -> Replay | None:
        """Read the log, as often as it takes while it is out of reach: an open stream outlives that; None: it has ended."""
        while self.is_current:
            try:
                return await self._node.engine.replay(self.connection.user, starts, CHUNK)
            except Unavailable as error:
                await asyncio.sleep(error.retry_after_s)
        return None

    def _progress(self, starts: dict[str, int]) -> dict[str, int]:
        """Return where to read on, for the channels the connection has by now."""
        delivered, private = self.connection.delivered, self.connection.private
        read_ranges = {PRIVATE: private} | {name: self.connection.channels[name] for name in self._joined()}
        # A channel that was left and joined again meanwhile begins where it may be read from now.
        return {
            name: max(delivered[self._shard(name)], starts.get(name, read_range.joined), read_range.bound)
            for name, read_range in read_ranges.items()
        }

    async def _write(
        self,
        buffer: BufferBatch,
        entries: list[Entry],
        encode: Callable[[Entry, Dialect], bytes],
        changes: Callable[[], list[Entry] | None],
    ) -> bool:
        """Write what the client hears of entries piece by piece, each once it has read most of the one before.

        Args:
            changes: tells what may supersede entries by now; None where that is too much, and the log has to be read anew.

        Returns:
            Whether it was all written.
        """
        rest: Sequence[Entry] = self._receivable(entries)
        while rest:
            recent = changes()
            if recent is None:
                return False
            rest = forms_for(self.connection.user, rest, recent) if recent else rest
            items, last = self._piece(rest, encode)
            if last is not None:
                # First of all, as a write ends a long poll: what it was sent can be taken back only from here.
                self.connection.delivered = last.offsets
                self._stream.write(ENCLOSE[self._stream.framing](items, last.position))
            rest = rest[len(items) :]
            await self._drain(buffer)
            if not self.is_current:
                return False
        return True

    def _receivable(self, entries: list[Entry]) -> list[Entry]:
        """Return what this connection hears: while it was read, the client may have left a channel, or joined it again."""
        bounds: dict[str | None, int] = {
            name: read_range.bound for name, read_range in self.connection.channels.items()
        }
        bounds[None] = self.connection.private.bound
        rests = (
            entry.after(bounds[entry.event.channel])
            for entry in entries
            if entry.offset > bounds.get(entry.event.channel, entry.offset)
        )
        user = self.connection.user
        return [entry.for_user(user) for entry in rests if self.connection.receives(entry.event)]

    def _piece(
        self, entries: Iterable[Entry], encode: Callable[[Entry, Dialect], bytes]
    ) -> tuple[list[bytes], Entry | None]:
        """Encode the first of some entries, up to a limited size; return the last of them as well."""
        items: list[bytes] = []
        size, last = 0, None
        for last in advance_positions(self.connection.delivered, entries):
            items.append(encode(last, self.connection.dialect))
            size += len(items[-1])
            if size >= PIECE_BYTES:
                break
        return items, last

    async def _drain(self, buffer: BufferBatch) -> None:
        """Wait until the transport has room, which uvloop finds out at the end of a turn of the loop."""
        await asyncio.sleep(0)
        while self._paused and self.is_current:
            buffer.overflow()
            self._drained = asyncio.Event()
            await self._drained.wait()
            self._drained = None


def _known(asked: Position, head: Position, shards: set[int]) -> list[int]:
    """Return up to where a client has heard each shard; -1 where that cannot be said.

    Args:
        shards: those of which `head` is the end; of others nobody knows whether there is as much (see `Session._level`).
    """
    numbers = [asked.offset_in(head.epochs, shard) for shard in range(len(head.offsets))]
    pairs = enumerate(zip(numbers, head.offsets, strict=True))
    return [number if number <= last or shard not in shards else -1 for shard, (number, last) in pairs]
