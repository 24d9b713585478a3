"""When a shard is compared with the connections of a node, and what is repaired at once."""

import asyncio
from typing import Any

from tests.engines.redis.nodes import PREFIX, Nodes, counted, cut, names_in, take_out_of_reach
from tests.redis_server import RedisServer
from tests.waiting import soon

from channelstream.engines.redis.engine import RedisEngine
from channelstream.engines.redis.reconciler import RETRY_MIN_S
from channelstream.engines.redis.registration_index import RegistrationStep
from channelstream.errors import Unavailable

LONG_S = 600.0
"""A lease whose heartbeats come too late for a test."""


def registered(engine: RedisEngine) -> str:
    """Return the key of what a shard registers for a node."""
    return f"{PREFIX}nk:{engine.cluster._registrar.node}"


async def exchanged(redis: RedisServer, nodes: Nodes) -> RedisEngine:
    """Start a node whose connection a shard does not register, but one in its place: the numbers are equal."""
    engine, _ = await nodes.member("ann", "a")
    assert redis.cli("SREM", registered(engine), "ann") == "1"
    redis.cli("SADD", registered(engine), "another")
    return engine


async def is_restored(redis: RedisServer, engine: RedisEngine) -> None:
    await soon(lambda: redis.cli("SISMEMBER", registered(engine), "ann") == "1")


def test_everything_is_compared_after_an_outage(redis: RedisServer, with_one_shard: Any) -> None:
    async def life(nodes: Nodes) -> None:
        engine = await exchanged(redis, nodes)
        cut(engine)
        await is_restored(redis, engine)

    with_one_shard(life, lease_s=LONG_S)


def test_everything_is_compared_after_the_end_of_a_lease(redis: RedisServer, with_one_shard: Any) -> None:
    """Which the next heartbeat learns."""

    async def life(nodes: Nodes) -> None:
        engine = await exchanged(redis, nodes)
        redis.cli("DEL", f"{PREFIX}nl:{engine.cluster._registrar.node}")
        await engine._links.lease_managers[0]._heartbeat()
        await is_restored(redis, engine)

    with_one_shard(life, lease_s=LONG_S)


def test_a_repair_that_failed_after_an_outage_is_repeated_soon(
    redis: RedisServer, with_one_shard: Any
) -> None:
    """Before the next heartbeat, and after twice the pause when that has failed, too."""

    async def life(nodes: Nodes) -> None:
        engine = await exchanged(redis, nodes)
        restoring, attempts = engine.cluster._restoring, list[float]()
        restore = restoring.restore

        async def failing(conn_id: str, shard: Any) -> None:
            attempts.append(asyncio.get_running_loop().time())
            if len(attempts) < 3:
                raise Unavailable("Another shard is out of reach.")
            await restore(conn_id, shard)

        restoring.restore = failing  # type: ignore[method-assign]
        cut(engine)
        await is_restored(redis, engine)
        first, second, third = attempts
        assert (second - first >= RETRY_MIN_S, third - second >= 2 * RETRY_MIN_S) == (True, True)

    with_one_shard(life, lease_s=LONG_S)


def test_a_repair_of_one_connection_reads_no_others(with_one_shard: Any) -> None:
    """As long as the numbers are equal: there may be a million of them."""

    async def life(nodes: Nodes) -> None:
        engine, _ = await nodes.member("ann", "a")
        [lease_manager], [shard] = engine._links.lease_managers, engine._shards
        reconciler = lease_manager._reconciler
        # The first heartbeat of a node causes one; stopped within it, the next check would make it again.
        await soon(lambda: not reconciler._compare_everything)
        await lease_manager.stop()
        registrations, scanned, registered = (
            engine.cluster._registrar.ownership.registrations,
            [],
            shard.scans.registered,
        )

        def noted() -> Any:
            scanned.append(shard)
            return registered()

        shard.scans.registered = noted  # type: ignore[method-assign]
        for count, scans in ((1, 0), (2, 1)):
            registrations.move("ann", shard.index, RegistrationStep.FAIL)
            reconciler.on_heartbeat(count, lapsed=False)
            await reconciler._check()
            assert (len(scanned), registrations.unconfirmed[shard.index]) == (scans, set())

    with_one_shard(life, lease_s=LONG_S)


def test_a_connection_that_the_node_has_no_more_is_released(with_one_shard: Any) -> None:
    """Though it was not unregistered, and its node believes that the shard should register it."""

    async def life(nodes: Nodes) -> None:
        engine, recorder = await nodes.member("ann", "a")
        del recorder.members["ann"]
        await counted(engine, {"a": {}})

    with_one_shard(life)


def test_a_call_about_a_connection_that_has_gone_is_settled(with_three_shards: Any) -> None:
    """Also while the shard of its id is out of reach: another one restores none that this one has not confirmed."""

    async def life(nodes: Nodes) -> None:
        engine, _ = await nodes.node()
        for lease_manager in engine._links.lease_managers:
            await lease_manager.stop()
        gone = names_in(0, "k")[0]
        take_out_of_reach(engine._shards.at(gone))
        registrations = engine.cluster._registrar.ownership.registrations
        registrations.move(gone, 1, RegistrationStep.FAIL)
        await engine._links.lease_managers[1]._reconciler._check()
        assert registrations.unconfirmed == [set(), set(), set()]

    with_three_shards(life, lease_s=LONG_S)
