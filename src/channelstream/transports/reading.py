"""What a connection reads of the log: which channels, in which shards, and how far a read is complete."""

from collections.abc import Coroutine, Mapping
from types import MappingProxyType
from typing import NamedTuple, Protocol

from channelstream.core.batch import BufferBatch
from channelstream.core.connection import Connection, Stream
from channelstream.core.log import PRIVATE, Replay
from channelstream.core.position import Offsets, ReadRange, shard_of, with_offset
from channelstream.service import Node
from channelstream.wire.client_session import ClientSession

CHUNK = 256
"""Entries that one read of the log returns at most."""


class Change(NamedTuple):
    """What was changed of what a stream receives.

    Attributes:
        answer: what its client is sent first.
        starts: the offsets after which it is sent events of channels that it has joined; of others those after the join.
        members_at: the offsets up to which it knows from the answer who is in a channel: it is sent no presence events up to
            them.
    """

    answer: bytes
    starts: Mapping[str, int]
    members_at: Mapping[str, int] = MappingProxyType({})


NO_CHANGE = Change(b"", MappingProxyType({}))


class AttachedStream(Stream, Protocol):
    """A stream, as its attachment sees it; each transport has one."""

    @property
    def session(self) -> ClientSession: ...

    def write_first(self, data: bytes) -> None:
        """Send bytes that do not end a long poll by themselves."""

    def caught_up(self) -> None:
        """Called when all was sent to a client that has no position yet or has lost channels: a long poll answers now."""


class Attached(Protocol):
    """A stream with its connection, as those see it that read the log for it (`Attachment`)."""

    node: Node
    connection: Connection

    @property
    def stream(self) -> AttachedStream: ...

    @property
    def is_current(self) -> bool:
        """Whether the connection still has this stream."""

    @property
    def is_paused(self) -> bool:
        """Whether the transport is full."""

    async def drained(self, buffer: BufferBatch) -> None:
        """Wait until the transport has room."""


def read_chunk(
    node: Node, connection: Connection, starts: Mapping[str, int]
) -> Coroutine[None, None, Replay]:
    """Read the next `CHUNK` entries after the offset that is given for each channel.

    Raises:
        Unavailable: the engine is out of reach.
    """
    return node.reads.replay(connection.user, starts, CHUNK)


def joined(connection: Connection) -> list[str]:
    """Return the channels whose log can be read. A channel that is being joined may not exist yet."""
    joining = connection.all_joining
    return [name for name in connection.readable if name not in joining]


def read_ranges(connection: Connection) -> dict[str, ReadRange]:
    """Return the range of each log that can be read, that of the private messages among them."""
    ranges = {**connection.readable, PRIVATE: connection.private}
    if joining := connection.all_joining:
        for name in joining & connection.readable.keys():
            del ranges[name]
    return ranges


def is_buffered(connection: Connection, buffer: BufferBatch, starts: Mapping[str, int]) -> bool:
    """Whether a buffer has all that a connection receives after these offsets, so that the log need not be read.

    Of a channel that was joined since it began it has what came after the join.
    """
    if not buffer.since or buffer.overflowed or connection.all_joining:
        return False
    ranges = read_ranges(connection)
    return all(
        offset >= max(buffer.since[shard_in(connection, name)], ranges[name].joined)
        for name, offset in starts.items()
    )


def shard_in(connection: Connection, name: str) -> int:
    """Return the shard of a channel, or of the connection's private messages."""
    shards = len(connection.delivered)
    return 0 if shards == 1 else shard_of(connection.user if name == PRIVATE else name, shards)


def complete_up_to(connection: Connection, starts: Mapping[str, int], read_to: Offsets) -> Offsets:
    """Return `read_to`, lowered for channels that were joined after the read began.

    The read does not cover such a channel. So in its shard the result is at most the offset of the join: then the
    next read covers the channel.
    """
    for name, read_range in connection.readable.items():
        if name not in starts:
            shard = shard_in(connection, name)
            read_to = with_offset(read_to, shard, min(read_to[shard], read_range.joined))
    return read_to
