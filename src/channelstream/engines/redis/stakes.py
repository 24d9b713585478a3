"""Which shards count which of a node's connections.

A shard counts a connection when the directory entry of its id, its user or one of its channels lies there.
"""

from collections.abc import Collection


class Stakes:
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

    def forget(self, conn_id: str) -> None:
        for shard in self._shards(self._masks.pop(conn_id, 0)):
            self.counts[shard] -= 1

    def keep_only(self, held: Collection[str]) -> None:
        """Forget what the node holds no longer; nearly always there is nothing to look for."""
        if len(held) != len(self._masks):
            for conn_id in self._masks.keys() - held:
                self.forget(conn_id)

    def of(self, shard: int) -> set[str]:
        """Return the connections a shard should count."""
        return {conn_id for conn_id, mask in self._masks.items() if mask >> shard & 1}

    def _shards(self, mask: int) -> list[int]:
        return [shard for shard in range(len(self.counts)) if mask >> shard & 1]
