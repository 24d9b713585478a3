"""Reads a little of the engine, as streams and calls do, before a node takes the work of another process over.

A new version may start and still be unable to read what the engine has: its scripts fail, or it may not run a command that
they have now. It finds that out here, while the other process can go on.
"""

from collections.abc import Iterable, Iterator
from itertools import islice

from channelstream.core.hub import Hub
from channelstream.core.log import PRIVATE
from channelstream.core.position import shard_of
from channelstream.engines.base import Engine
from channelstream.errors import CannotHandOver, Unavailable

LOOKED_AT = 1_000
"""Channels, and users, of the node among which one of each shard is looked for: there may be very many."""


async def read_first(engine: Engine, hub: Hub) -> None:
    """Read an entry of a log, and a user, in each shard; and a record by time.

    Args:
        engine: that has started.
        hub: with the connections of the node.

    Raises:
        CannotHandOver: the engine refuses, or is out of reach.
    """
    shards = len(hub.offsets)
    # Before the first wait: other nodes may take connections from this one afterwards.
    private = {name: next(iter(hub.users[name])).private.bound for name in _one_in_each(hub.users, shards)}
    starts = {
        name: next(iter(hub.channels[name])).readable[name].bound
        for name in _one_in_each(hub.channels, shards)
    }
    try:
        await engine.replay("", {}, 0)  # In all shards, also those in which the node has nothing.
        for user, bound in private.items():
            await engine.replay(user, starts | {PRIVATE: bound}, 1)
        await engine.users(list(private), with_channels=False)
        await engine.time_series.read("", 0.0, 1)
    except Unavailable as error:
        raise CannotHandOver(
            f"the new process cannot read the engine, and the log says why: {error.message}"
        ) from error


def _one_in_each(names: Iterable[str], shards: int) -> Iterator[str]:
    """Yield a name of each shard, if one is found soon."""
    found = set[int]()
    for name in islice(names, LOOKED_AT):
        shard = shard_of(name, shards)
        if shard not in found:
            found.add(shard)
            yield name
