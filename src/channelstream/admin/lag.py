"""How far the client of a connection is behind the log."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from channelstream.core.batch import DISCARD
from channelstream.core.connection import Connection, ConnectionState
from channelstream.core.entry import Entry
from channelstream.errors import Unavailable
from channelstream.service import Node
from channelstream.slices import Slices
from channelstream.transports.reading import read_ranges, shard_in
from channelstream.wire.protocols import PROTOCOLS

COUNTED = 1000
"""Most events that are counted; of a client that is further behind the page shows that there are more."""


async def lag_of(node: Node, connection: Connection) -> dict[str, Any] | None:
    """Describe what the log has for a connection that was not written to its stream; None if the log cannot be read.

    `events` and their `bytes`, and for how many `seconds` the oldest of them waits. There may be `more` events.
    """
    if connection.state is ConnectionState.LIVE and connection.batch is not DISCARD:
        return await _described(node, connection, connection.batch.entries(), has_more=False)
    ranges = read_ranges(connection)
    starts = {
        name: max(connection.delivered[shard_in(connection, name)], each.joined, each.bound)
        for name, each in ranges.items()
    }
    try:
        read = await node.replay(connection.user, starts, COUNTED)
    except Unavailable:
        return None
    missed = [entry for entry in read.entries if connection.receives(entry.event)]
    return await _described(node, connection, missed, has_more=bool(read.lost) or read.read_to != read.head)


async def _described(
    node: Node, connection: Connection, entries: Sequence[Entry], *, has_more: bool
) -> dict[str, Any]:
    sizes = await Slices(node.clock.steady).each(entries, partial(_item_bytes, connection))
    return {
        "events": sum(entry.event.count for entry in entries),
        "bytes": sum(sizes),
        "seconds": _waited_s(node, entries[0]) if entries else 0.0,
        "more": has_more,
    }


def _item_bytes(connection: Connection, entry: Entry) -> int:
    """Return how many bytes the client is sent for an entry; an estimate if this version does not speak its protocol."""
    if not PROTOCOLS.is_known(connection.protocol):
        return entry.event.size_bytes()
    return len(PROTOCOLS.text_of(connection.protocol, entry) or b"")


def _waited_s(node: Node, entry: Entry) -> float:
    # Engines of one process stamp entries by the clock that never jumps; nodes that share one by its time of day.
    now_s = node.clock.steady() if node.is_single else node.clock.wall()
    return round(max(0.0, now_s - entry.at_s), 1)
