"""The last events that a connection received, or waits for, as far as the logs still contain them."""

from collections.abc import Iterable, Iterator, Mapping
from heapq import nlargest
from itertools import islice

from channelstream.core.connection import Connection
from channelstream.core.entry import Entry
from channelstream.core.position import ReadRange
from channelstream.service import Node
from channelstream.slices import Slices
from channelstream.transports.reading import read_ranges, shard_in

EVENTS = 20
"""Most events of a connection that are shown."""
SCANNED = 50
"""Entries of each log that are searched for these events: the connection may not receive all of them."""
WINDOWS = tuple(2**power for power in range(10, -1, -1))
"""How many of the last events of a shard are searched where nodes share the log. A log that does not reach back so far
is read from half the way, and so on."""


async def last_events(node: Node, found: Connection) -> list[Entry]:
    """Return these events, newest first.

    Raises:
        Unavailable: the engine is out of reach.
    """
    return await (_in_process(node, found) if node.is_single else _in_shards(node, found))


async def _in_process(node: Node, found: Connection) -> list[Entry]:
    channels = await node.directory.channels(list(found.readable), with_users=False)
    owner = await node.directory.users([found.user])
    # During the await the connection may have left some of its channels.
    ranges = found.readable
    readable = [(each.log, ranges[each.name]) for each in channels if each.name in ranges]
    readable += [(each.log, found.private) for each in owner]
    slices = Slices(node.clock.steady)
    last: list[Entry] = []
    for log, read_range in readable:
        last = nlargest(EVENTS, (*last, *_tail(log.entries, found, read_range.bound)), key=_by_time)
        await slices.due()
    return last


async def _in_shards(node: Node, found: Connection) -> list[Entry]:
    """Read the logs from a little before their ends: the engine has them, and finds entries by their offsets."""
    left = read_ranges(found)
    last: list[Entry] = []
    for window in WINDOWS:
        if left:
            read = await node.replay(
                found.user, _starts(node, found, left, window), window * len(node.hub.offsets)
            )
            received = (entry for entry in read.entries if found.receives(entry.event))
            last = nlargest(EVENTS, (*last, *received), key=_by_time)
            left = {name: left[name] for name in read.lost if name in left}
    return last


def _starts(node: Node, found: Connection, ranges: Mapping[str, ReadRange], window: int) -> dict[str, int]:
    ends = node.hub.offsets
    return {name: max(each.bound, ends[shard_in(found, name)] - window) for name, each in ranges.items()}


def _by_time(entry: Entry) -> tuple[float, int]:
    return entry.at_s, entry.offset


def _tail(entries: list[Entry], found: Connection, bound: int) -> Iterable[Entry]:
    """Yield the last entries of a log that this connection receives."""
    recent: Iterator[Entry] = (
        entry for entry in islice(reversed(entries), SCANNED) if found.receives(entry.event)
    )
    return (entry for entry in islice(recent, EVENTS) if entry.offset > bound)
