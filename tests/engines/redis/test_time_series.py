"""The records by time in Redis: what is written twice, and what comes while they are read."""

import asyncio
import signal
from typing import Any

import pytest
from tests.engines.redis.nodes import SHORT_S, Nodes
from tests.redis_server import RedisServer
from tests.waiting import soon

from channelstream.engines.redis.engine import RedisEngine
from channelstream.engines.time_series import Record
from channelstream.errors import Unavailable

HOUR_S = 3600.0


def test_a_record_is_one_though_redis_was_too_late_to_say_so(redis: RedisServer, with_one_shard: Any) -> None:
    """It was written all the same; that of another node, which is equal, is another one."""

    async def life(nodes: Nodes) -> None:
        engine, _ = await nodes.node()
        other, _ = await nodes.node()
        record = Record(100.0, b"a")

        async def is_written(node: RedisEngine) -> bool:
            try:
                await node.time_series.append("minutes", record, HOUR_S)
            except Unavailable:
                return False
            return True

        redis.signal(signal.SIGSTOP)
        assert not await is_written(engine)
        await soon(lambda: not other.is_reachable)
        redis.signal(signal.SIGCONT)
        await soon(lambda: is_written(engine))
        assert await engine.time_series.read("minutes", 0.0) == [record]
        await soon(lambda: is_written(other))
        assert await other.time_series.read("minutes", 0.0) == [record, record]

    with_one_shard(life, timeout_s=SHORT_S)


def test_records_that_come_while_others_are_read_repeat_none(
    with_one_shard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is read once, and their order stays."""
    monkeypatch.setattr("channelstream.engines.redis.time_series.READ_AT_ONCE", 2)

    async def life(nodes: Nodes) -> None:
        engine, _ = await nodes.node()
        writer, _ = await nodes.node()

        async def write(first: int) -> None:
            for at_s in range(first, first + 40):
                await writer.time_series.append("minutes", Record(float(at_s), b"x"), HOUR_S)

        await write(0)
        found, _ = await asyncio.gather(engine.time_series.read("minutes", 0.0), write(40))
        times = [each.at_s for each in found]
        assert times == sorted(set(times))
        assert set(times) >= set(map(float, range(40)))

    with_one_shard(life)
