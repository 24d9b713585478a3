"""The outbox in Redis: each shard has the facts about its channels and users, the first one also the lease."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from channelstream.apps.wanted_facts import app_of
from channelstream.core.facts import Fact, decode, encode
from channelstream.engines.outbox import (
    Cursor,
    CursorsOfApps,
    Kept,
    OutboxSettings,
    OutboxState,
    merged,
    passed_by_all,
)
from channelstream.engines.redis.shard import Shard
from channelstream.engines.redis.shard_state import NodeContext
from channelstream.engines.redis.shards import Shards, gather_all

APPENDED_AT_ONCE = 100
"""Most facts that one call appends."""
APPENDED_BYTES = 256 << 10
"""From this size on a call appends no further fact."""


def packed_settings(settings: OutboxSettings) -> bytes:
    """Return what the script needs to know of the wanted facts and of the bounds; empty if none are wanted."""
    if not settings.wanted:
        return b""
    apps = {
        app_id: (dict.fromkeys(each.kinds, True), each.hidden)
        for app_id, each in settings.wanted.apps.items()
    }
    return msgspec.msgpack.encode((apps, _bounds(settings)))


def _bounds(settings: OutboxSettings) -> tuple[int, ...]:
    return settings.most_facts, settings.most_bytes, settings.total_facts, settings.total_bytes


class RedisOutbox:
    """Facts and cursors in all shards."""

    def __init__(self, shards: Shards, node: NodeContext, settings: OutboxSettings) -> None:
        """Create the outbox of a node.

        Args:
            node: holds the lease.
        """
        self._shards = shards
        self._node = node
        self._settings = settings

    @property
    def beginning(self) -> Cursor:
        return (0,) * len(self._shards)

    # -- facts

    async def append(self, facts: Sequence[Fact]) -> None:
        parts: dict[tuple[Shard, str], list[bytes]] = {}
        for fact in facts:
            parts.setdefault((self._shards.at(fact.place), app_of(fact)), []).append(encode(fact))
        await gather_all(self._append(shard, app_id, each) for (shard, app_id), each in parts.items())

    async def _append(self, shard: Shard, app_id: str, facts: Sequence[bytes]) -> None:
        bounds = _bounds(self._settings)
        for batch in _batches(facts):
            await shard.client.call(
                "append_facts", app=app_id, sizes=list(map(len, batch)), blob=b"".join(batch), most=bounds
            )

    async def read(self, app_id: str, after: Cursor, limit: int) -> list[Kept]:
        parts = await gather_all(
            self._read(shard, app_id, after[shard.index], limit) for shard in self._shards
        )
        return [each for part in parts for each in part]

    async def _read(self, shard: Shard, app_id: str, after: int, limit: int) -> list[Kept]:
        found = await self._command(shard, "XRANGE", f"facts:{app_id}", f"({after}-0", "+", "COUNT", limit)
        return [
            Kept(shard.index, int(number.partition(b"-")[0]), decode(data)) for number, (_, data) in found
        ]

    # -- cursors

    async def cursors(self) -> dict[str, Cursor]:
        parts = await gather_all(self._command(shard, "HGETALL", "passed") for shard in self._shards)
        each = [
            {name.decode(): int(number) for name, number in zip(flat[::2], flat[1::2], strict=True)}
            for flat in parts
        ]
        names = sorted({name for part in each for name in part})
        return {name: tuple(part.get(name, 0) for part in each) for name in names}

    async def settle(self, token: int, cursors: CursorsOfApps) -> bool:
        return all(await gather_all(self._settle(shard, token, cursors) for shard in self._shards))

    async def _settle(self, shard: Shard, token: int, cursors: CursorsOfApps) -> bool:
        index = shard.index
        answer = await shard.client.call(
            "settle",
            token=token,
            cursors={name: str(cursor[index]) for name, cursor in merged(cursors).items()},
            through={app_id: str(number) for app_id, number in passed_by_all(cursors, index).items()},
            kept_ms=self._settings.kept_s * 1000,
        )
        return bool(answer)

    # -- the lease

    async def hold(self, ttl_s: float) -> int | None:
        client = self._shards.by_index(0).client
        return int(await client.call("hold", node=self._node.name, ttl_ms=ttl_s * 1000)) or None

    async def release(self) -> None:
        await self._shards.by_index(0).client.call("release_lease", node=self._node.name)

    async def state(self) -> OutboxState:
        totals: Counter[bytes] = Counter()
        for flat in await gather_all(self._command(shard, "HGETALL", "outbox") for shard in self._shards):
            for name, value in zip(flat[::2], flat[1::2], strict=True):
                totals[name.partition(b":")[0]] += int(value)
        return OutboxState(totals[b"n"], totals[b"bytes"], totals[b"dropped"])

    @staticmethod
    async def _command(shard: Shard, command: str, key: str, *rest: Any) -> Any:
        return await shard.client.command(command, f"{shard.client.prefix}{key}", *rest)


def _batches(facts: Sequence[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    size = 0
    for fact in facts:
        batch.append(fact)
        size += len(fact)
        if len(batch) == APPENDED_AT_ONCE or size >= APPENDED_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
