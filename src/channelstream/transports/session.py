"""What all transports share: a stream attaches to a connection, catches up, goes live, stalls, and is lost.

A stream (`core.connection.Stream`) writes bytes to one client. A session is the life of one stream with its
connection. The log has one shard or several. An offset is the number of an event in its shard, and a position
has one offset for each shard. `connection.delivered` is the position up to which the client was sent
everything.

The same loop (`Session._catch_up`) sends a client what it missed, after an absence as well as after a stall:
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
  read once more.
- Edits and deletions arrive for entries that are read but not yet written. `hub.changes` has the recent ones,
  so that entries are written in their current form. If `hub.changes` no longer has all that are needed, the
  log is read again.
- A newer stream of the connection attaches, or the stream is lost. After each `await` the session continues
  only if `is_current`. Otherwise it would write to the wrong stream, or overwrite `delivered` after the newer
  session has moved it.
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
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress

from channelstream.core.batch import DISCARD, BufferBatch
from channelstream.core.changes import compacted, forms_for
from channelstream.core.connection import Connection, ConnectionState, Stream
from channelstream.core.log import PRIVATE, Entry, Replay, advance_positions
from channelstream.core.position import Offsets, Position, max_offsets, min_offsets, shard_of, with_offset
from channelstream.errors import CloseCode, Unavailable
from channelstream.node import Node

logger = logging.getLogger(__name__)

CLOSED_BY_CLIENT = "closed by the client"
LINE_LOST = "the line was lost"

CHUNK = 256
"""Entries that one read of the log returns at most."""
PIECE_BYTES = 65_536
"""While catching up, a write ends with the entry that reaches this size.

The next write waits until a full transport has drained. So at most one such write waits for a slow client.
"""
BUFFERED_ENTRIES = 1000
"""Live entries buffered for a connection while the log is read; if there are more, the log is read again."""
BUFFERED_BYTES = 65_536
"""Limit for the total size of the buffered entries that are written as a stream goes live.

If their total size is larger, the log is read again. A single entry may be larger than this limit.
"""


class Session:
    """The life of one stream with its connection."""

    __slots__ = ("_delivered_when_lost", "_drained", "_node", "_paused", "_stream", "_task", "connection")

    def __init__(self, node: Node, connection: Connection, stream: Stream) -> None:
        self.connection = connection
        self._node = node
        self._stream = stream
        # `connection.delivered` at the moment when the connection lost this stream.
        self._delivered_when_lost: Offsets | None = None
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
            since: the position the client asks to resume from; empty if the client has none yet, None if the
                client is of an older generation and cannot resume.
        """
        older = self.connection.stream
        buffer = BufferBatch(BUFFERED_ENTRIES)
        self._node.hub.attach(self.connection, self._stream, buffer)
        self._node.attached(self.connection)
        # Close the older stream only now: a stream that is closed while it is current detaches the
        # connection.
        if older is not None:
            older.close(CloseCode.REPLACED, "replaced by a newer stream of this connection")
        self._run(self._attach(buffer, since))

    def pause(self) -> None:
        """Stop writing to a full transport; once it has drained, catch up from the log (backpressure)."""
        self._paused = True
        self._node.stalls += 1
        self._node.signals.stalled.emit(self.connection)
        is_live = self.connection.state is ConnectionState.LIVE and self.connection.batch is not DISCARD
        if self.is_current and is_live:
            buffer = BufferBatch(0)
            self._node.hub.stall(self.connection, buffer)
            self._run(self._recover(buffer))

    def resume(self) -> None:
        """Continue after the transport has drained."""
        self._paused = False
        if self._drained is not None:
            self._drained.set()

    def ended(self, grace_s: float, code: int | None, reason: str) -> None:
        """Record why the stream ended, and detach the connection.

        Args:
            grace_s: as in `lost`.
            code: the close code; None if the socket was lost without a close code. If the client closes with
                1000, the whole connection ends. That is recorded when the connection ends, and not here.
        """
        if self.is_current and code != CloseCode.NORMAL:
            self._node.record_ending(self.connection, code, reason, final=False)
        self.lost(grace_s)

    def lost(self, grace_s: float) -> None:
        """Detach the connection. It ends unless another stream attaches within `grace_s` seconds."""
        if self.is_current and self.connection.state is not ConnectionState.CLOSED:
            self._node.detached(self.connection, grace_s)
            self._delivered_when_lost = self.connection.delivered
        self.resume()

    def discard_pending(self) -> bool:
        """Write nothing more to a live stream, because its client no longer reads.

        Returns:
            Whether the stream may be ended in a later loop turn. A stream that catches up must end now:
            otherwise `_catch_up` would continue to write until that turn.
        """
        if not self.is_current:
            return True
        self._node.hub.discard_pending(self.connection)
        return self.connection.state is not ConnectionState.CATCHING_UP

    def mark_undelivered(self, delivered: Offsets) -> None:
        """Move `delivered` back to these offsets, because the client had gone before it read the last write.

        Does nothing if the connection has another stream now, or if another stream has moved `delivered` in
        the meantime. To move it back then would send the client again what it has received on that other
        stream.
        """
        if self.connection.stream is None and self.connection.delivered == self._delivered_when_lost:
            self.connection.delivered = min_offsets(self.connection.delivered, delivered)

    def left(self) -> None:
        """End the connection, because its client has closed the current stream with 1000."""
        self._node.end_soon(self.connection, CloseCode.NORMAL, CLOSED_BY_CLIENT)

    def _run(self, work: Coroutine[None, None, None]) -> None:
        self._task = asyncio.get_running_loop().create_task(self._unless_out_of_reach(work))

    async def _unless_out_of_reach(self, work: Coroutine[None, None, None]) -> None:
        """Run the work of a session; if it fails, close the stream so that the client reconnects later."""
        try:
            await work
        except Unavailable as error:
            if self.is_current:
                self._stream.close(CloseCode.OVERLOADED, error.message)
        except Exception:
            # Do not leave the stream open and silent: if it ends, its client reconnects.
            logger.exception("a stream failed while catching up")
            if self.is_current:
                self._stream.close(CloseCode.OVERLOADED, "missed events could not be sent")

    # -- catching up

    async def _attach(self, buffer: BufferBatch, since: str | None) -> None:
        # Wait first. The application may choose the id, so a client may know it, and open its stream, before
        # `/connect` has registered the id. Or the connection has moved to this node, and is joining again the
        # channels that a shard has lost.
        await self._node.registered(self.connection)
        if not self.is_current:
            return
        if since is None:
            await self._catch_up(buffer, {}, self._stream.format.catchup_item, strict=False)
            return
        head, shards = await self._head()
        if not self.is_current:
            return
        starts = self._resume_from(since, head, shards)
        replay = await self._node.replay(self.connection.user, starts, limit=0)
        if not self.is_current:
            return
        self._node.signals.replayed.emit(self.connection, (), replay.lost)
        if replay.lost:
            delivered = await self._skip_lost(starts, replay)
            if not self.is_current:
                return
            self.connection.delivered = delivered
        position = str(Position(head.epochs, self.connection.delivered))
        self._send_resumed(position, starts, replay.lost)
        await self._catch_up(buffer, starts, self._stream.format.item, strict=True)
        if self.is_current and (replay.lost or not since):
            self._stream.caught_up()

    async def _head(self) -> tuple[Position, set[int]]:
        """Return the head of the log, and the shards that this connection reads.

        The other shards may be out of reach, and nothing in them concerns the connection. So in these shards
        the head is only the offset up to which this node has received everything.
        """
        while True:
            shards, names = self._shards(), (self.connection.user, *self._joined())
            head = await self._node.head(names)
            if self._shards() <= shards:  # Otherwise a channel of a further shard was joined.
                return head, shards

    def _shards(self) -> set[int]:
        if len(self.connection.delivered) == 1:
            return {0}
        return {self._shard(name) for name in (PRIVATE, *self._joined())}

    async def _skip_lost(self, starts: dict[str, int], replay: Replay) -> Offsets:
        """Return the position before the next event of the recovered channels, or the head if there is none.

        Also move the `starts` of the lost channels, so that nothing of these channels is replayed. The client
        is then sent the returned position. If it were sent the position that it has asked for, its next long
        poll would ask with that position again, and get the same loss at once.
        """
        position = replay.read_to
        recovered = [name for name in starts if name not in replay.lost]
        while recovered and self.is_current:
            read = await self._node.replay(
                self.connection.user,
                {name: max(position[self._shard(name)], starts[name]) for name in recovered},
                CHUNK,
            )
            if read.lost:
                break
            pending = [entry for entry in read.entries if self.connection.receives(entry.event)]
            position = read.read_to
            for entry in reversed(pending):
                position = with_offset(position, entry.shard, entry.first_offset - 1)
            if pending or position == read.head:
                break
            await asyncio.sleep(0)  # Let others run, as in `_catch_up`.
        # Nothing of the lost channels is replayed.
        after = max_offsets(position, replay.head)
        starts |= {name: after[self._shard(name)] for name in replay.lost}
        return self._complete_up_to(starts, position)

    def _joined(self) -> list[str]:
        """Return the channels whose log can be read. A channel that is being joined may not exist yet."""
        return [name for name in self.connection.channels if name not in self.connection.joining]

    def _shard(self, name: str) -> int:
        """Return the shard of a channel, or of the connection's private messages."""
        return shard_of(self.connection.user if name == PRIVATE else name, len(self.connection.delivered))

    def _complete_up_to(self, starts: Mapping[str, int], read_to: Offsets) -> Offsets:
        """Return `read_to`, lowered for channels that were joined after the read began.

        The read does not cover such a channel. So in its shard the result is at most the offset of the join:
        then the next read covers the channel.
        """
        for name, read_range in self.connection.channels.items():
            if name not in starts:
                shard = self._shard(name)
                read_to = with_offset(read_to, shard, min(read_to[shard], read_range.joined))
        return read_to

    def _resume_from(self, since: str, head: Position, shards: set[int]) -> dict[str, int]:
        """Return the offset after which each channel is read for a resuming client; -1 if that is unknown.

        It is unknown if `since` has no offset of this log for the channel's shard, or if the channel's
        `ReadRange` begins at a position of another log. Events before a channel's `ReadRange` were never the
        connection's: they are neither sent nor reported as lost. This method also sets `delivered` to the
        client's position. In a shard where that position is unknown, `delivered` becomes the head.
        """
        position = Position.parse(since) if since else head
        unproven = [-1] * len(head.offsets)
        delivered = unproven if position is None else _delivered_offsets(position, head, shards)
        self.connection.delivered = tuple(
            last if offset < 0 else offset for offset, last in zip(delivered, head.offsets, strict=True)
        )
        read_ranges = {name: self.connection.channels[name] for name in self._joined()}
        read_ranges[PRIVATE] = self.connection.private
        return {
            name: read_range.start(delivered[self._shard(name)]) for name, read_range in read_ranges.items()
        }

    def _send_resumed(self, position: str, starts: dict[str, int], lost: frozenset[str]) -> None:
        recovered = sorted(name for name in starts if name not in lost)
        self._stream.write_first(self._stream.format.resumed(position, recovered, sorted(lost)), position)

    async def _recover(self, buffer: BufferBatch) -> None:
        """Send a client that was too slow what it missed, once it has read the bytes that wait for it."""
        await self._drain(buffer)
        await self._catch_up(buffer, {}, self._stream.format.item, strict=True)

    async def _catch_up(
        self,
        buffer: BufferBatch,
        starts: dict[str, int],
        encode: Callable[[Entry], bytes | None],
        strict: bool,
    ) -> None:
        """Write the entries that the log has for this connection until nothing is left, then go live.

        Args:
            buffer: the connection's batch, which collects live events meanwhile.
            starts: for each channel the offset after which to begin. Where `connection.delivered` is later,
                the read begins there.
            encode: makes an entry's item for this client.
            strict: close the stream if the log no longer reaches back to where the client is, since this
                client relies on getting everything.
        """
        connection = self.connection
        while self.is_current:
            buffer.reset()
            # Take this number before the log is read, so that no change in between is missed.
            changes = self._node.hub.changes.number
            progress = self._progress(starts)
            replay = await self._read(progress)
            if replay is None or not self.is_current:
                return
            if strict and replay.lost:
                self._stream.close(CloseCode.TOO_SLOW, "too slow: the log no longer reaches back")
                return
            self._node.signals.replayed.emit(connection, replay.entries, ())
            read_to = self._complete_up_to(progress, replay.read_to)
            entries = [entry for entry in replay.entries if entry.offset <= read_to[entry.shard]]
            written = await self._write(buffer, entries, encode, self._changes_after(changes, replay.head))
            if not self.is_current:
                return
            if not written:
                continue
            before, connection.delivered = connection.delivered, max_offsets(connection.delivered, read_to)
            if self._is_behind_client():
                await self._catch_node_up()
            elif self._paused:
                # A write of the transport itself, such as a pong, has paused the session. If the stream went
                # live now, nothing would bound the data that waits for the client.
                await self._drain(buffer)
            elif read_to == replay.head and not buffer.overflowed and self._go_live(buffer, changes):
                return
            elif read_to != replay.read_to and connection.delivered == before:
                # All that remains to be read is a channel that is still being joined. Its log cannot be read
                # yet.
                await self._node.joined(connection)
            # An in-process engine may answer without yielding to the event loop. Without this `sleep`, nothing
            # that this method waits for could happen.
            await asyncio.sleep(0)

    def _go_live(self, buffer: BufferBatch, changes: int) -> bool:
        """Write the buffered events, and from now on live events; return False if the log must be read again.

        Must not await: an event that arrived after the buffer was read, and before the hub goes live, would
        be lost.
        """
        connection, recent = self.connection, self._node.hub.changes.after(changes)
        if recent is None:
            return False
        newer = compacted(
            [entry for entry in buffer.buffered if entry.offset > connection.delivered[entry.shard]]
        )
        if len(newer) > 1 and sum(entry.size for entry in newer) > BUFFERED_BYTES:
            return False  # `_catch_up` reads them from the log, and writes them piece by piece.
        forms = forms_for(connection.user, newer, recent)
        self._node.hub.go_live(connection, advance_positions(connection.delivered, forms))
        return True

    def _changes_after(self, number: int, head: Offsets) -> Callable[[], list[Entry] | None]:
        """Return a function that returns the edits and deletions that are newer than a read.

        The read covers the log up to `head`. When it began, the last change had this `number`. The function
        returns None if there are too many changes: then the log has to be read again.
        """

        def changes() -> list[Entry] | None:
            recent = self._node.hub.changes.after(number)
            return recent and [change for change in recent if change.offset > head[change.shard]]

        return changes

    def _is_behind_client(self) -> bool:
        """Whether in some shard `delivered` is a higher offset than this node has received.

        A node receives only the events of its own channels and users. So its offset in a shard may lag
        behind.
        """
        delivered = self.connection.delivered
        return max_offsets(delivered, self._node.hub.offsets) != self._node.hub.offsets

    async def _catch_node_up(self) -> None:
        """Have this node catch up with `delivered` in the shards in which the node lags behind.

        These are shards that the connection does not read. If such a shard is out of reach, or the client's
        offset is not one of this log, `delivered` is lowered. An offset that is too low only costs a second
        read. An offset that is too high would hide events of a channel that is joined later.
        """
        pairs = zip(self.connection.delivered, self._node.hub.offsets, strict=True)
        ahead = [shard for shard, (delivered, received) in enumerate(pairs) if delivered > received]
        with suppress(Unavailable):
            await self._node.catch_up(ahead)
        if self.is_current:
            self.connection.delivered = min_offsets(self.connection.delivered, self._node.hub.offsets)

    async def _read(self, starts: dict[str, int]) -> Replay | None:
        """Read the log, and retry while the engine is out of reach; return None if the stream has ended."""
        while self.is_current:
            try:
                return await self._node.replay(self.connection.user, starts, CHUNK)
            except Unavailable as error:
                await asyncio.sleep(error.retry_after_s)
        return None

    def _progress(self, starts: dict[str, int]) -> dict[str, int]:
        """Return the offset after which the next read begins, for each channel of the connection."""
        delivered, private = self.connection.delivered, self.connection.private
        read_ranges = {PRIVATE: private} | {name: self.connection.channels[name] for name in self._joined()}
        # If a channel was left and joined again meanwhile, `starts` still has an offset of the former
        # membership. So the bound of the new range applies too.
        return {
            name: max(delivered[self._shard(name)], starts.get(name, read_range.joined), read_range.bound)
            for name, read_range in read_ranges.items()
        }

    async def _write(
        self,
        buffer: BufferBatch,
        entries: list[Entry],
        encode: Callable[[Entry], bytes | None],
        changes: Callable[[], list[Entry] | None],
    ) -> bool:
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
            rest = forms_for(self.connection.user, rest, recent) if recent else rest
            items, count, last = self._piece(rest, encode)
            if last is not None:
                # Set this before the write. The write ends a long poll, and `lost` then records `delivered`.
                # If the client of the poll has gone, `mark_undelivered` moves `delivered` back.
                self.connection.delivered = last.offsets
                if items:
                    self._stream.write(self._stream.format.enclose(items, last.position))
            rest = rest[count:]
            await self._drain(buffer)
            if not self.is_current:
                return False
        return True

    def _receivable(self, entries: list[Entry]) -> list[Entry]:
        """Return the entries that the connection may read now.

        During the read the connection may have left a channel, or joined it again.
        """
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
        self, entries: Iterable[Entry], encode: Callable[[Entry], bytes | None]
    ) -> tuple[list[bytes], int, Entry | None]:
        """Encode the first entries, up to `PIECE_BYTES`; return their items, how many entries these are, and the last."""
        items: list[bytes] = []
        size = count = 0
        last = None
        for last in advance_positions(self.connection.delivered, entries):
            count += 1
            item = encode(last)
            if item is not None:
                items.append(item)
                size += len(item)
            if size >= PIECE_BYTES:
                break
        return items, count, last

    async def _drain(self, buffer: BufferBatch) -> None:
        """Wait until the transport has room."""
        await asyncio.sleep(0)  # uvloop calls `pause_writing` at the end of the loop turn of a write.
        while self._paused and self.is_current:
            # A client that does not read must cost no memory: events that arrive now are read from the log
            # later.
            buffer.overflow()
            self._drained = asyncio.Event()
            await self._drained.wait()
            self._drained = None


def _delivered_offsets(position: Position, head: Position, shards: set[int]) -> list[int]:
    """Return the offset of a client's position in each shard; -1 where this log has no such offset.

    Args:
        shards: the shards in which `head` is the end of the log. In the other shards the log may have higher
            offsets (`Session._catch_node_up`).
    """
    offsets = [position.offset_in(head.epochs, shard) for shard in range(len(head.offsets))]
    pairs = enumerate(zip(offsets, head.offsets, strict=True))
    return [offset if offset <= last or shard not in shards else -1 for shard, (offset, last) in pairs]
