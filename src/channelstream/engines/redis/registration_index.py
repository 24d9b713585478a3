"""Which shards count which of a node's connections.

A shard counts a connection when the directory entry of its id, its user or one of its channels lies there.
"""

from collections.abc import Collection, Iterator
from itertools import islice

BATCH = 1000


class RegistrationIndex:
    """The shards of each connection, as far as their answers have told.

    Attributes:
        counts: for each shard, how many connections it should count for this node.
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
        """Return the shards that should count a connection."""
        return [shard for shard in range(len(self.counts)) if self.has(conn_id, shard)]

    def has_stale(self, local: Collection[str]) -> bool:
        """Say whether the node may hold some of these connections no longer; nearly always it holds all."""
        return len(local) != len(self._masks)

    def batches(self) -> Iterator[list[str]]:
        """Yield all connections, so many at a time that other work may have its turn in between."""
        everything = iter(list(self._masks))
        while batch := list(islice(everything, BATCH)):
            yield batch

    def batches_in(self, shard: int) -> Iterator[list[str]]:
        """Yield the connections a shard should count, likewise."""
        for batch in self.batches():
            yield [conn_id for conn_id in batch if self._masks.get(conn_id, 0) >> shard & 1]
