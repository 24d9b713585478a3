"""How a client is sent what it missed: the log is read until nothing is left, then the stream goes live.

The log has one shard or several. An offset is the number of an event in its shard, and a position has one offset
for each shard. `connection.delivered` is the position up to which the client was sent everything.

The same loop (`CatchUp.run`) sends a client what it missed, after an absence as well as after a stall:
read a chunk of the log after `connection.delivered`, write the chunk, and go live when nothing is left. There
is no queue for each connection. So a slow or absent client costs no memory except the buffer of its
transport. The price is that the log is read again for each of these clients.

Invariant: each entry that the connection may read is written once, in offset order within a shard, and
`connection.delivered` is the position after the last written entry. The loop awaits the engine and the
transport. Meanwhile the following may happen:

- Live events arrive. A `BufferBatch` collects them from before the read begins, so that no event is missed
  between the end of the read and going live. Going live is one step without `await`. It is allowed if the
  read has reached the end of the log (its "head") and the buffer has not overflowed. Buffered entries up to
  `delivered` are dropped, because the read has already returned them. If the buffer overflows, the log is
  read once more. If it has all that the client was not sent, the log is not read at all: it may keep nothing
  (`log_events` of 0).
- Edits and deletions arrive for entries that are read but not yet written. `hub.changes` has the recent ones,
  so that entries are written in their current form. If `hub.changes` no longer has all that are needed, the
  log is read again.
- A newer stream of the connection attaches, or the stream is lost. After each `await` the loop continues
  only if `is_current`. Otherwise it would write to the wrong stream, or overwrite `delivered` after the newer
  one has moved it.
- Channels are joined and left. While a channel is being joined, its start is not known yet, so the channel is
  read later. Entries of a channel that was left are dropped. If the channel was joined again, only its
  entries before the new `ReadRange` are dropped.
- The engine is out of reach. An open stream waits and reads again, since its client misses nothing as long as
  the log reaches back far enough. A new stream is closed with 1013, because its client must first be sent
  which channels are recovered, and only the engine knows this.

The alternative is a queue for each connection, into which live events and replayed entries are merged. Such a
queue needs a bound for each client, and a second way to resume once the bound is reached.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import gt

from channelstream.close_codes import CloseCode
from channelstream.core.batch import BufferBatch
from channelstream.core.changes import compacted, forms_for
from channelstream.core.entry import Entry, advance_positions
from channelstream.core.log import Replay
from channelstream.core.position import Offsets, max_offsets, min_offsets, with_offset
from channelstream.core.shedding import Work
from channelstream.errors import Unavailable
from channelstream.transports.reading import (
    NO_CHANGE,
    Attached,
    complete_up_to,
    is_buffered,
    read_chunk,
    read_ranges,
    shard_in,
)

PIECE_BYTES = 65_536
"""While catching up, a write ends with the entry that reaches this size.

The next write waits until a full transport has drained. So at most one such write waits for a slow client.
"""
BUFFERED_BYTES = 65_536
"""Limit for the total size of the buffered entries that are written as a stream goes live.

If their total size is larger, the log is read again. A single entry may be larger than this limit.
"""


class CatchUp:
    """Sends the client of a stream what it missed; it exists while that is under way.

    Args:
        attached: the stream with its connection.
        buffer: the connection's batch, which collects live events meanwhile.
        encode: makes an entry's item for this client.
        members_at: as of `reading.Change`.
    """

    __slots__ = ("_attached", "_buffer", "_connection", "_encode", "_members_at", "_node")

    def __init__(
        self,
        attached: Attached,
        buffer: BufferBatch,
        encode: Callable[[Entry], bytes | None],
        members_at: Mapping[str, int] = NO_CHANGE.members_at,
    ) -> None:
        self._attached = attached
        self._buffer = buffer
        self._connection = attached.connection
        self._encode = encode
        self._members_at = members_at
        self._node = attached.node

    async def check_load(self, starts: Mapping[str, int]) -> None:
        """Refuse a long replay while the process sheds load: one that takes a second read or a second write.

        The client has been sent nothing of it yet, and keeps its position.

        Args:
            starts: as in `run`.

        Raises:
            Overloaded: it is refused.
            Unavailable: the engine is out of reach.
        """
        shedding = self._node.shedding
        if not shedding.reason:
            return
        replay = await read_chunk(self._node, self._connection, self._progress(starts))
        is_long = replay.read_to != replay.head or sum(entry.size for entry in replay.entries) > PIECE_BYTES
        if is_long and self._attached.is_current:
            shedding.check(Work.REPLAY)

    async def run(self, starts: Mapping[str, int], strict: bool) -> None:
        """Write the entries that the log has for this connection until nothing is left, then go live.

        Args:
            starts: for each channel the offset after which to begin. Where `connection.delivered` is later,
                the read begins there.
            strict: close the stream if the log no longer reaches back to where the client is, since this
                client relies on getting everything.
        """
        while self._attached.is_current:
            if await self._advance(starts, strict):
                return
            # An in-process engine may answer without yielding to the event loop. Without this `sleep`, nothing
            # that this method waits for could happen.
            await asyncio.sleep(0)

    async def _advance(self, starts: Mapping[str, int], strict: bool) -> bool:
        """Read a chunk of the log and write it; return whether the stream is live, or no longer current."""
        progress = self._progress(starts)
        if is_buffered(self._connection, self._buffer, progress):
            return await self._proceed_without_log(progress)
        # Before the log is read, so that no event and no change in between is missed.
        self._buffer.reset(self._node.hub.changes.number)
        replay = await self._read(progress)
        if replay is None:
            return False
        if not self._attached.is_current:
            return True
        if strict and replay.lost:
            self._attached.stream.close(CloseCode.TOO_SLOW, "too slow: the log no longer reaches back")
            return True
        self._node.signals.replayed.emit(self._connection, replay.entries, ())
        read_to = complete_up_to(self._connection, progress, replay.read_to)
        if replay.entries:
            entries = [entry for entry in replay.entries if entry.offset <= read_to[entry.shard]]
            if not await self._write(entries, self._changes_after(replay.head)):
                return False
            if not self._attached.is_current:
                return True
        return await self._proceed(replay, read_to)

    async def _proceed_without_log(self, progress: Mapping[str, int]) -> bool:
        """Go live with what is buffered, or wait for what that needs; return whether the stream is live.

        Before the stream goes live, the node must have received every event that is not to be written any more: those which
        the client was sent, and those which the connection may not read. One of them that arrived at the node later would be
        written as a live event.
        """
        connection, buffer = self._connection, self._buffer
        connection.delivered = needed = max_offsets(connection.delivered, buffer.since)
        for name, offset in (*progress.items(), *self._members_at.items()):
            shard = shard_in(connection, name)
            needed = with_offset(needed, shard, max(needed[shard], offset))
        if self._is_ahead(needed):
            await self._catch_node_up(needed)
        elif self._attached.is_paused:
            await self._attached.drained(buffer)
        elif self._go_live():
            return True
        else:
            buffer.overflow()  # It is too much for one write, so it is read from the log.
        return False

    async def _read(self, progress: Mapping[str, int]) -> Replay | None:
        """Return the next chunk of the log; None, after a pause, if the engine is out of reach."""
        try:
            return await read_chunk(self._node, self._connection, progress)
        except Unavailable as error:
            pause_s = error.retry_after_s
        await asyncio.sleep(pause_s)  # After the handler, as setup.py says.
        return None

    async def _proceed(self, replay: Replay, read_to: Offsets) -> bool:
        """Go live, or wait for what the next read needs; return whether the stream is live.

        Args:
            read_to: the offsets up to which the client was written everything.
        """
        connection = self._connection
        before = connection.delivered
        if read_to != before:
            connection.delivered = max_offsets(before, read_to)
        if self._is_ahead(connection.delivered):
            await self._catch_node_up(connection.delivered)
        elif self._attached.is_paused:
            # A write of the transport itself, such as a pong, has filled the transport. If the stream went
            # live now, nothing would bound the data that waits for the client.
            await self._attached.drained(self._buffer)
        elif read_to == replay.head and not self._buffer.overflowed and self._go_live():
            return True
        elif read_to != replay.read_to and connection.delivered == before:
            # All that remains to be read is a channel that is still being joined. Its log cannot be read yet.
            await self._node.local.joined(connection)
        return False

    def _go_live(self) -> bool:
        """Write the buffered events, and from now on live events; return False if the log must be read again.

        Must not await: an event that arrived after the buffer was read, and before the hub goes live, would
        be lost.
        """
        buffered, connection = self._buffer.buffered, self._connection
        if not buffered:
            self._node.hub.go_live(connection, ())
            return True
        recent = self._node.hub.changes.after(self._buffer.changes)
        if recent is None:
            return False
        unsent = [entry for entry in buffered if entry.offset > connection.delivered[entry.shard]]
        newer = compacted(forms_for(connection.user, self._receivable(unsent), recent))
        if len(newer) > 1 and sum(entry.size for entry in newer) > BUFFERED_BYTES:
            return False  # `run` reads them from the log, and writes them piece by piece.
        self._node.hub.go_live(connection, advance_positions(connection.delivered, newer))
        return True

    def _changes_after(self, head: Offsets) -> Callable[[], list[Entry] | None]:
        """Return a function that returns the edits and deletions that are newer than a read, which began with the buffer.

        The read covers the log up to `head`. The function returns None if there are too many changes: then the log has to
        be read again.
        """
        number = self._buffer.changes

        def changes() -> list[Entry] | None:
            recent = self._node.hub.changes.after(number)
            return recent and [change for change in recent if change.offset > head[change.shard]]

        return changes

    def _is_ahead(self, offsets: Offsets) -> bool:
        """Whether one of these offsets is higher than what this node has received in its shard.

        A node receives only the events of its own channels and users. So its offset in a shard may lag
        behind.
        """
        return any(map(gt, offsets, self._node.hub.offsets))

    async def _catch_node_up(self, offsets: Offsets) -> None:
        """Have this node catch up with these offsets in the shards in which it lags behind.

        If such a shard is out of reach, or the offset is not one of its log, `delivered` is lowered. An offset that is
        too low only costs a second read. An offset that is too high would hide events of a channel that is joined later.
        """
        pairs = zip(offsets, self._node.hub.offsets, strict=True)
        ahead = [shard for shard, (offset, received) in enumerate(pairs) if offset > received]
        try:
            await self._node.catch_up(ahead)
        except Unavailable:
            self._buffer.overflow()  # So the log is read next, which waits until the shard is there again.
        if self._attached.is_current:
            connection, received = self._connection, self._node.hub.offsets
            connection.delivered = min_offsets(connection.delivered, received)
            # It is lowered too, in case a shard has begun a new log, with lower offsets. Nothing is skipped by that: the
            # connection receives nothing of this shard, or its stream was closed.
            self._buffer.since = min_offsets(self._buffer.since, received)

    def _progress(self, starts: Mapping[str, int]) -> dict[str, int]:
        """Return the offset after which the next read begins, for each channel of the connection."""
        connection, delivered = self._connection, self._connection.delivered
        progress: dict[str, int] = {}
        for name, read_range in read_ranges(connection).items():
            start, bound = read_range.joined, read_range.joined
            if name in starts:
                # If the channel was left and joined again meanwhile, this is an offset of the former membership.
                # So the bound of the new range applies too.
                start, bound = starts[name], read_range.bound
            progress[name] = max(delivered[shard_in(connection, name)], start, bound)
        return progress

    async def _write(self, entries: list[Entry], changes: Callable[[], list[Entry] | None]) -> bool:
        """Write entries piece by piece, each when the transport has room.

        Args:
            changes: returns the changes that may have superseded entries meanwhile; None if there are too
                many.

        Returns:
            Whether all entries were written; if not, the stream has ended, or the log has to be read again.
        """
        rest: Sequence[Entry] = self._receivable(entries)
        while rest:
            recent = changes()
            if recent is None:
                return False
            rest = forms_for(self._connection.user, rest, recent) if recent else rest
            items, count, last = self._piece(rest)
            if last is not None:
                # Set this before the write. The write ends a long poll, and `lost` then records `delivered`.
                # If the client of the poll has gone, `mark_undelivered` moves `delivered` back.
                self._connection.delivered = last.offsets
                if items:
                    data = self._attached.stream.format.enclose(items, last.position)
                    self._node.hub.written.add(len(items), len(data))
                    self._attached.stream.write(data)
            rest = rest[count:]
            await self._attached.drained(self._buffer)
            if not self._attached.is_current:
                return False
        return True

    def _receivable(self, entries: list[Entry]) -> list[Entry]:
        """Return the entries that the connection may read now.

        During the read the connection may have left a channel, or joined it again.
        """
        bounds: dict[str | None, int] = {
            name: read_range.bound for name, read_range in self._connection.readable.items()
        }
        bounds[None] = self._connection.private.bound
        limits = ((entry, self._limit(entry, bounds)) for entry in entries)
        rests = (entry.after(limit) for entry, limit in limits if entry.offset > limit)
        connection = self._connection
        return [
            entry.for_user(connection.member_in(entry.event.channel).user)
            for entry in rests
            if connection.receives(entry.event)
        ]

    def _limit(self, entry: Entry, bounds: Mapping[str | None, int]) -> int:
        """Return the offset up to which an entry is not for the connection.

        If the answer to a join has listed the members of the channel, the client needs no presence events up to the offset
        of that list (`_members_at`). The node has received everything up to it before the stream is live.
        """
        event = entry.event
        bound = bounds.get(event.channel, entry.offset)
        if event.channel is None or event.channel not in self._members_at or not event.about:
            return bound
        return max(bound, self._members_at[event.channel])

    def _piece(self, entries: Iterable[Entry]) -> tuple[list[bytes], int, Entry | None]:
        """Encode the first entries, up to `PIECE_BYTES`; return their items, how many entries these are, and the last."""
        items: list[bytes] = []
        size = count = 0
        last = None
        for last in advance_positions(self._connection.delivered, entries):
            count += 1
            item = self._encode(last)
            if item is not None:
                items.append(item)
                size += len(item)
            if size >= PIECE_BYTES:
                break
        return items, count, last
