"""Calls that Redis refuses: what they leave as it is, and what the log says of them."""

import re
from typing import Any

import pytest
from tests.engines.conformance import EMPTY, message
from tests.engines.redis.nodes import Nodes, big, counted, published
from tests.redis_server import RedisServer

from channelstream.core.entry import Entry
from channelstream.core.events import Presence
from channelstream.engines.members import Member
from channelstream.engines.redis.refusals import REFUSALS_A_MINUTE
from channelstream.errors import Unavailable
from channelstream.wire.channelstream import V07


def test_a_full_redis_is_emptied_by_leaving(redis: RedisServer, with_nodes: Any) -> None:
    """It refuses new data; leases are renewed, connections leave and end, and then there is room again."""

    async def life(nodes: Nodes) -> None:
        engine, recorder = await nodes.member("ann", "a", notify_presence=True)
        members = [Member(f"k{number}", f"u{number}", V07) for number in range(5)]
        for member in members:
            recorder.members[member.conn_id] = (member, {"a"})
            await engine.connect(member, EMPTY)
            await engine.join(member, {"a": {}})
        # Far less than the members give back, so that all of it has to work in a full one.
        redis.cli("CONFIG", "SET", "maxmemory", "1")
        try:
            with pytest.raises(Unavailable, match="cannot do that now"):
                await engine.publish([message("m1")])
            await engine.leave(members[0], ["a"])
            for member in members:
                del recorder.members[member.conn_id]
                await engine.disconnect(member, ["a"])
            for lease_manager in engine._links.lease_managers:
                await lease_manager._shard.client.heartbeat(lease_ms=1000, label="", connections=1)
            await engine.collect()
            assert all(shard.is_linked for shard in engine._shards)
        finally:
            redis.cli("CONFIG", "SET", "maxmemory", "0")
        await counted(engine, {"a": {"ann": 1}})
        gone = [entry.event.user for entry in recorder.entries if is_parted(entry)]
        assert sorted(gone) == sorted(member.user for member in members)
        await published(engine, message("m2"))

    with_nodes(life)


def is_parted(entry: Entry) -> bool:
    return isinstance(entry.event, Presence) and not entry.event.joined


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (["maxmemory", "1"], "maxmemory"),
        (["min-replicas-to-write", "1"], "NOREPLICAS"),
    ],
)
def test_operations_redis_cannot_do_now_are_refused(
    redis: RedisServer,
    with_one_shard: Any,
    limits: list[str],
    reason: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Where it is full, or lacks the replicas it must have, on whichever version. The log has a few lines of them."""

    async def life(nodes: Nodes) -> None:
        engine, _ = await nodes.node()
        redis.cli("CONFIG", "SET", *limits)
        try:
            if reason not in redis.cli("EVAL", "return redis.call('SET', KEYS[1], 1)", "1", "key"):
                pytest.skip("This Redis lets scripts do it.")  # 6.2.5, as to replicas.
            for event in (message("m1"), big(1)) * REFUSALS_A_MINUTE:
                with pytest.raises(Unavailable, match="cannot do that now"):
                    await engine.publish([event])
            assert engine._shards.at("a").is_linked
            lines = [line for line in caplog.messages if line.startswith("Redis has refused ")]
            assert len(lines) == REFUSALS_A_MINUTE
        finally:
            redis.cli("CONFIG", "SET", limits[0], "0")
        await published(engine, message("m2"))

    with_one_shard(life)


def test_an_unexpected_refusal_is_logged_beside_many_known_ones(
    redis: RedisServer, with_one_shard: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A full Redis hides no other fault."""

    async def life(nodes: Nodes) -> None:
        engine, _ = await nodes.member("ann", "a")
        await published(engine, message("m1"))
        redis.cli("CONFIG", "SET", "maxmemory", "1")
        for _ in range(REFUSALS_A_MINUTE + 1):
            with pytest.raises(Unavailable):
                await engine.publish([message("m2")])
        redis.cli("CONFIG", "SET", "maxmemory", "0")
        redis.cli("SET", f"{engine._shards.at('a').client.prefix}cl:a", "of another type")
        with pytest.raises(Unavailable):
            await engine.publish([message("m2")])
        [error] = [record.message for record in caplog.records if record.levelname == "ERROR"]
        # Before Redis 7 the script is named first.
        assert re.match("Redis has refused publish: .*WRONGTYPE", error)

    with_one_shard(life)
