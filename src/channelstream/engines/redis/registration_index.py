"""Which shards should have which connections of this node registered: those of its id, its user and its channels.

The index follows the replies of the shards, so it may be wrong after a lost reply. It exists so that each heartbeat
compares one number per shard instead of a million ids. A bit mask for each connection keeps it small.
"""

from collections.abc import Collection, Iterator
from itertools import islice

BATCH = 1000
"""Connections in one batch of an iteration; the event loop runs other work between two batches."""


class RegistrationIndex:
    """The shards of each connection, as far as this node knows.

    Attributes:
        counts: for each shard, how many connections it should register for this node.
    """

    def __init__(self, shards: int) -> None:
        self.counts = [0] * shards
        self._masks: dict[str, int] = {}

    def add(self, conn_id: str, shard: int) -> None:
        mask = self._masks.get(conn_id, 0)
        if not mask >> shard & 1:
            self._masks[conn_id] = mask | 1 << shard
            self.counts[shard] += 1

    def discard(self, conn_id: str, shard: int) -> None:
        mask = self._masks.get(conn_id, 0)
        if mask >> shard & 1:
            self.counts[shard] -= 1
            self._masks[conn_id] = mask & ~(1 << shard)
            if not self._masks[conn_id]:
                del self._masks[conn_id]

    def has(self, conn_id: str, shard: int) -> bool:
        return bool(self._masks.get(conn_id, 0) >> shard & 1)

    def forget(self, conn_id: str) -> None:
        for shard in self.shards(conn_id):
            self.counts[shard] -= 1
        self._masks.pop(conn_id, None)

    def shards(self, conn_id: str) -> list[int]:
        """Return the shards that should register a connection."""
        return [shard for shard in range(len(self.counts)) if self.has(conn_id, shard)]

    def has_stale(self, local: Collection[str]) -> bool:
        """Return whether the index may have connections that the node no longer has: only the numbers are compared."""
        return len(local) != len(self._masks)

    def batches(self) -> Iterator[list[str]]:
        """Yield all connections, in batches."""
        everything = iter(list(self._masks))
        while batch := list(islice(everything, BATCH)):
            yield batch

    def batches_in(self, shard: int) -> Iterator[list[str]]:
        """Yield the connections a shard should register, in batches, some of them empty."""
        for batch in self.batches():
            yield [conn_id for conn_id in batch if self._masks.get(conn_id, 0) >> shard & 1]
