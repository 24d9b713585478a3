"""The records by time in Redis: a sorted set for each series, in the first shard, which all nodes write to."""

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import UUID

from channelstream.engines.redis.shard_client import ShardClient
from channelstream.engines.time_series import SERIES_RECORDS, Record

READ_AT_ONCE = 500
"""Records read by one command, so that Redis serves other callers in between."""
TOKEN_BYTES = 16
"""Of the token before each record: equal records of two nodes stay two."""


class RedisTimeSeries:
    """Reads and writes records; their times are the scores."""

    def __init__(self, client: ShardClient, new_id: Callable[[], str]) -> None:
        """Create one.

        Args:
            client: of the shard that has all series.
            new_id: returns a UUID that nobody had before.
        """
        self._client = client
        self._new_id = new_id

    async def append(self, series: str, record: Record, keep_s: float) -> None:
        member = UUID(self._new_id()).bytes + record.data
        key = self._key(series)
        # Sent in one packet, in this order.
        await asyncio.gather(
            self._command("ZADD", key, record.at_s, member),
            self._command("ZREMRANGEBYSCORE", key, "-inf", f"({record.at_s - keep_s}"),
            self._command("ZREMRANGEBYRANK", key, 0, -SERIES_RECORDS - 1),
            self._command("EXPIRE", key, max(1, int(keep_s))),
        )

    async def read(self, series: str, since_s: float, limit: int = SERIES_RECORDS) -> list[Record]:
        key, found = self._key(series), list[Record]()
        while True:
            count = min(READ_AT_ONCE, limit - len(found))
            flat = await self._command(
                "ZREVRANGEBYSCORE", key, "+inf", since_s, "WITHSCORES", "LIMIT", len(found), count
            )
            found += [
                Record(float(score), member[TOKEN_BYTES:])
                for member, score in zip(flat[::2], flat[1::2], strict=True)
            ]
            if len(found) == limit or len(flat) < 2 * count:
                return found[::-1]

    def _key(self, series: str) -> str:
        return f"{self._client.prefix}ts:{series}"

    async def _command(self, *parts: Any) -> Any:
        return await self._client.outlast_move(lambda: self._client.command_on(self._client.linked(), *parts))
