"""From where a client resumes: the offset after which each of its channels is read, and which channels are lost."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from channelstream.core.batch import BufferBatch
from channelstream.core.connection import Connection
from channelstream.core.log import PRIVATE, Replay
from channelstream.core.position import Offsets, Position, ReadRange, max_offsets, with_offset
from channelstream.transports.reading import (
    Attached,
    complete_up_to,
    is_buffered,
    joined,
    read_chunk,
    read_ranges,
    shard_in,
)


@dataclass(frozen=True, slots=True)
class Resumption:
    """What was found out for a resuming client, whose `connection.delivered` is set to its position.

    Attributes:
        epochs: of the log, for each shard.
        starts: the offset after which each channel is read.
        lost: the channels whose missed events the log no longer has.
        ranges: what the connection could read when `starts` was made.
    """

    epochs: tuple[str, ...]
    starts: dict[str, int]
    lost: frozenset[str]
    ranges: Mapping[str, ReadRange]

    def recovered(self, connection: Connection) -> list[str]:
        """Return the channels of which the client is sent all that it has missed, sorted; take others out of `starts`.

        A channel that was left meanwhile, and perhaps joined again, is read as one that an open stream joins: from then
        on. What it had missed before may have been passed over while the connection was not in it.
        """
        ranges = read_ranges(connection)
        proven = sorted(self.starts.keys() - self.lost)
        for name in proven:
            if ranges.get(name) != self.ranges.get(name):
                del self.starts[name]
        return [name for name in proven if name in self.starts]

    @classmethod
    async def of(cls, attached: Attached, since: str, buffer: BufferBatch) -> "Resumption | None":
        """Compare a client's position with the log; return None if the stream has ended meanwhile.

        Args:
            since: the position; empty if the client has none yet.
            buffer: the batch of the connection since the stream is attached. It has all that comes after the head.

        Raises:
            Unavailable: the engine is out of reach.
        """
        node, connection = attached.node, attached.connection
        head, shards = await _head(attached)
        if not attached.is_current:
            return None
        buffer.since = head.offsets
        starts, ranges = resume_from(connection, since, head, shards), read_ranges(connection)
        if is_buffered(connection, buffer, starts):
            return cls(head.epochs, starts, frozenset(), ranges)
        replay = await node.reads.replay(connection.user, starts, limit=0)
        if not attached.is_current:
            return None
        node.signals.replayed.emit(connection, (), replay.lost)
        if replay.lost:
            delivered = await _skip_lost(attached, starts, replay)
            if not attached.is_current:
                return None
            connection.delivered = delivered
        return cls(head.epochs, starts, replay.lost, ranges)


async def _head(attached: Attached) -> tuple[Position, set[int]]:
    """Return the head of the log, and the shards that this connection reads.

    The other shards may be out of reach, and nothing in them concerns the connection. So in these shards the head
    is only the offset up to which this node has received everything.
    """
    connection = attached.connection
    while True:
        shards, names = _shards(connection), [connection.user, *joined(connection)]
        head = await attached.node.reads.head(names)
        if _shards(connection) <= shards:  # Otherwise a channel of a further shard was joined.
            return head, shards


def _shards(connection: Connection) -> set[int]:
    if len(connection.delivered) == 1:
        return {0}
    return {shard_in(connection, name) for name in (PRIVATE, *joined(connection))}


def resume_from(connection: Connection, since: str, head: Position, shards: set[int]) -> dict[str, int]:
    """Return the offset after which each channel is read for a resuming client; -1 if that is unknown.

    It is unknown if `since` has no offset of this log for the channel's shard, if the channel's `ReadRange`
    begins at a position of another log, or if the client may lack what it was sent apart. Events before a
    channel's `ReadRange` were never the connection's: they are neither sent nor reported as lost. This function
    also sets `delivered` to the client's position. In a shard where that position is unknown, `delivered`
    becomes the head.
    """
    position = Position.parse(since) if since else head
    unproven = [-1] * len(head.offsets)
    delivered = unproven if position is None else _delivered_offsets(position, head, shards)
    connection.delivered = tuple(
        last if offset < 0 else offset for offset, last in zip(delivered, head.offsets, strict=True)
    )
    starts = {
        name: read_range.start(delivered[shard_in(connection, name)])
        for name, read_range in read_ranges(connection).items()
    }
    if connection.sent_apart:
        # Without a position, nothing proves that the client has them.
        starts |= dict.fromkeys(connection.lacking(delivered if since else unproven), -1)
    return starts


def _delivered_offsets(position: Position, head: Position, shards: set[int]) -> list[int]:
    """Return the offset of a client's position in each shard; -1 where this log has no such offset.

    Args:
        shards: the shards in which `head` is the end of the log. In the other shards the log may have higher
            offsets (`CatchUp._catch_node_up`).
    """
    offsets = [position.offset_in(head.epochs, shard) for shard in range(len(head.offsets))]
    pairs = enumerate(zip(offsets, head.offsets, strict=True))
    return [offset if offset <= last or shard not in shards else -1 for shard, (offset, last) in pairs]


async def _skip_lost(attached: Attached, starts: dict[str, int], replay: Replay) -> Offsets:
    """Return the position before the next event of the recovered channels, or the head if there is none.

    Also move the `starts` of the lost channels, so that nothing of these channels is replayed. The client is then
    sent the returned position. If it were sent the position that it has asked for, its next long poll would ask
    with that position again, and get the same loss at once.
    """
    connection, position = attached.connection, replay.read_to
    recovered = [name for name in starts if name not in replay.lost]
    while recovered and attached.is_current:
        progress = {name: max(position[shard_in(connection, name)], starts[name]) for name in recovered}
        read = await read_chunk(attached.node, connection, progress)
        if read.lost:
            break
        pending = [entry for entry in read.entries if connection.receives(entry.event)]
        position = read.read_to
        for entry in reversed(pending):
            position = with_offset(position, entry.shard, entry.first_offset - 1)
        if pending or position == read.head:
            break
        await asyncio.sleep(0)  # Let others run, as in `CatchUp`.
    # Nothing of the lost channels is replayed.
    after = max_offsets(position, replay.head)
    starts |= {name: after[shard_in(connection, name)] for name in replay.lost}
    return complete_up_to(connection, starts, position)
