"""The records by time in Redis: a sorted set for each series, in the first shard, which all nodes write to."""

import asyncio
import struct
from collections.abc import Sequence
from itertools import chain
from uuid import UUID

from channelstream.engines.redis.shard_client import ShardClient
from channelstream.engines.redis.shard_state import NodeContext
from channelstream.engines.time_series import SERIES_RECORDS, Record

READ_AT_ONCE = 500
"""Records read by one command, so that Redis serves other callers in between."""
_HEAD = struct.Struct(">16sd")
"""What precedes each record: the id of the node and the time, so that equal records of two nodes or times stay two."""


class RedisTimeSeries:
    """Reads and writes records; their times are the scores."""

    def __init__(self, client: ShardClient, node: NodeContext) -> None:
        """Create the records of a node in one shard.

        Args:
            client: of the shard that has all series.
            node: writes the records. What it writes again, since the answer of Redis was lost, stays one record.
        """
        self._client = client
        self._node = node

    async def append(self, series: str, record: Record, keep_s: float) -> None:
        await self.append_all(series, [record], keep_s)

    async def append_all(self, series: str, records: Sequence[Record], keep_s: float) -> None:
        node, at_s = UUID(self._node.name).bytes, records[-1].at_s
        scored = [(each.at_s, _HEAD.pack(node, each.at_s) + each.data) for each in records]
        key, command = self._key(series), self._client.command
        # Sent in one packet, in this order.
        await asyncio.gather(
            command("ZADD", key, *chain.from_iterable(scored)),
            command("ZREMRANGEBYSCORE", key, "-inf", f"({at_s - keep_s}"),
            command("ZREMRANGEBYRANK", key, 0, -SERIES_RECORDS - 1),
            command("EXPIRE", key, max(1, int(keep_s))),
        )

    async def read(self, series: str, since_s: float, limit: int = SERIES_RECORDS) -> list[Record]:
        key, found, known, place = self._key(series), list[Record](), set[bytes](), 0
        while len(found) < limit:
            count = min(READ_AT_ONCE, limit - len(found))
            flat = await self._client.command(
                "ZREVRANGEBYSCORE", key, "+inf", since_s, "WITHSCORES", "LIMIT", place, count
            )
            for member, at_s in zip(flat[::2], flat[1::2], strict=True):
                # What came since the last command has moved the others: some of them are read again.
                if member not in known:
                    known.add(member)
                    found.append(Record(float(at_s), member[_HEAD.size :]))
            place += count
            if len(flat) < 2 * count:
                break
        return found[::-1]

    def _key(self, series: str) -> str:
        return f"{self._client.prefix}ts:{series}"
