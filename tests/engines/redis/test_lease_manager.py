"""Leases and heartbeats: who is taken for dead, and what other nodes do then."""

import asyncio
import time
from itertools import pairwise
from typing import Any

import pytest
from tests.engines.conformance import EMPTY, Recorder, message
from tests.engines.conformance.nodes import at_once
from tests.engines.redis.nodes import (
    PREFIX,
    Nodes,
    begin_to_end,
    channel_in,
    counted,
    cut,
    event_of,
    in_many,
    sent_calls,
)
from tests.redis_server import RedisServer
from tests.stoppable_line import StoppableLine
from tests.waiting import PATIENCE_S, soon

from channelstream.core.events import Presence
from channelstream.engines.members import Member
from channelstream.engines.redis.engine import RedisEngine
from channelstream.engines.redis.lease_manager import MAX_HEARTBEATS
from channelstream.engines.redis.shard_client import CHUNK
from channelstream.errors import Unavailable
from channelstream.wire.channelstream import V07


def test_a_lease_is_renewed_while_connections_are_counted_again(redis: RedisServer, with_nodes: Any) -> None:
    """However long that takes; no other node takes this one for dead."""

    async def life(nodes: Nodes) -> None:
        engine, _ = await nodes.member("ann", "a")
        let_go, restoring, restore = asyncio.Event(), asyncio.Event(), engine.cluster._restoring.restore

        async def slow(conn_id: str, shard: Any) -> None:
            restoring.set()
            await let_go.wait()
            await restore(conn_id, shard)

        def beaten_ms(engine: RedisEngine) -> int:
            return int(redis.cli("HGET", f"{PREFIX}n:{engine.cluster._registrar.node}", "beat") or 0)

        engine.cluster._restoring.restore = slow  # type: ignore[method-assign]
        redis.cli("FLUSHALL")
        await restoring.wait()
        for _ in range(7):  # More than two leases.
            before = beaten_ms(engine)
            await soon(lambda: beaten_ms(engine) > before)  # noqa: B023
        let_go.set()
        await counted(engine, {"a": {"ann": 1}})

    with_nodes(life)


def test_a_heartbeat_is_never_refused_for_a_full_queue(
    with_one_shard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise other nodes would take a busy one for dead."""

    async def life(nodes: Nodes) -> None:
        engine, _ = await nodes.node()
        [lease_manager] = engine._links.lease_managers
        monkeypatch.setattr("channelstream.engines.redis.link.MAX_CALLS", 0)
        with pytest.raises(Unavailable, match="Too much waits"):
            await engine.publish([message("m1")])
        await lease_manager._heartbeat()

    with_one_shard(life)


def test_heartbeats_do_not_pile_up_before_a_slow_redis(redis: RedisServer, with_a_line: Any) -> None:
    """Three may wait; each of them renews the lease when Redis comes to it."""

    async def life(line: StoppableLine, near: Nodes, others: Nodes) -> None:
        engine, _ = await near.node()
        [lease_manager] = engine._links.lease_managers
        lease = f"{PREFIX}nl:{engine.cluster._registrar.node}"
        line.cut()
        for _ in range(20):
            lease_manager._start_heartbeat()
            await asyncio.sleep(0)
        assert sent_calls(engine) <= MAX_HEARTBEATS
        redis.cli("DEL", lease)
        line.mend()
        await soon(lambda: redis.cli("EXISTS", lease) == "1")
        await soon(lambda: not lease_manager._heartbeats)

    with_a_line(life, timeout_s=PATIENCE_S)


@pytest.mark.usefixtures("stopped_time")
def test_a_heartbeat_leaves_as_many_channels_as_a_script_may(redis: RedisServer, with_one_shard: Any) -> None:
    """It continues behind the first step of a connection that is ending."""

    async def life(nodes: Nodes) -> None:
        engine, recorder = await nodes.node()
        await in_many(engine, recorder, "ann")
        await begin_to_end(engine, "many")
        del recorder.members["many"]
        before = int(redis.cli("HLEN", f"{PREFIX}kc:many"))
        await engine._shards.at("").client.heartbeat(lease_ms=PATIENCE_S * 1000, label="", connections=0)
        assert before - int(redis.cli("HLEN", f"{PREFIX}kc:many")) > CHUNK

    with_one_shard(life, lease_s=PATIENCE_S)


def test_the_connections_of_a_dead_node_are_unregistered_in_every_shard(with_three_shards: Any) -> None:
    """Its users leave once in each channel; connections that a living node has claimed stay."""

    async def life(nodes: Nodes) -> None:
        channels = [channel_in(shard, 3) for shard in range(3)]
        dying, recorder = await nodes.member("ann", *channels)
        bob = Member("bob", "bob", V07)
        recorder.members["bob"] = (bob, set(channels))
        await dying.connect(bob, EMPTY)
        await dying.join(bob, {name: {} for name in channels})
        living, watcher = await nodes.member("eve", *channels, notify_presence=True)
        await living.configure({name: {"notify_presence": True} for name in channels})
        await dying.close()
        claim = await living.cluster.claim("bob", orphan=False, request_release=at_once)
        assert claim is not None
        assert set(claim.channels) == set(channels)
        watcher.members["bob"] = (claim.member, set(claim.channels))
        await soon(lambda: len(parted(watcher)) == 3)
        assert sorted(parted(watcher)) == sorted(("ann", name) for name in channels)
        for channel in await living.channels(channels):
            assert channel.users == {"bob": 1, "eve": 1}
        assert [user.connections for user in await living.users(["ann", "bob", "eve"])] == [0, 1, 1]

    with_three_shards(life)


def parted(recorder: Recorder) -> list[tuple[str, str]]:
    events = [each for each in map(event_of, recorder.entries) if isinstance(each, Presence)]
    return [(each.user, str(each.channel)) for each in events if not each.joined]


def test_nodes_are_listed_with_their_last_heartbeats(with_nodes: Any) -> None:
    """Each with its number of connections; a dead one until these are unregistered."""

    async def life(nodes: Nodes) -> None:
        dying, _ = await nodes.member("ann", "a")
        living, _ = await nodes.node()

        async def listed() -> list[tuple[str, int, bool]]:
            return sorted(
                (each.label, each.connections, each.is_alive) for each in await living.cluster.nodes()
            )

        async def are(*nodes: tuple[str, int, bool]) -> bool:
            return await listed() == list(nodes)

        await soon(lambda: are(("node 0", 1, True), ("node 1", 0, True)))
        assert all(abs(each.heartbeat_s - time.time()) < PATIENCE_S for each in await living.cluster.nodes())
        await dying.close()
        await soon(lambda: are(("node 1", 0, True)))

    with_nodes(life)


def test_a_node_that_was_stopped_has_left(with_nodes: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The log of the others says so, and calls only one dead that has ended in another way."""

    async def life(nodes: Nodes) -> None:
        stopped, _ = await nodes.member("ann", "a")
        killed, _ = await nodes.member("bob", "a")
        _, watcher = await nodes.node()
        with caplog.at_level("INFO"):
            await stopped.close()
            await killed._links.close()
            await soon(lambda: len(watcher.dead) == 2)
        found = {node.label: node.was_stopped for node, _ in watcher.dead}
        assert found == {"node 0": True, "node 1": False}
        lines = {record.getMessage() for record in caplog.records if record.args}
        left, dead = (f"node {each._node.name}" for each in (stopped, killed))
        assert f"{left} has left: its connections that have not come back are unregistered" in lines
        assert f"{dead} is dead: its connections are unregistered" in lines
        assert not [line for line in lines if line.startswith(f"{left} is dead")]

    with_nodes(life)


def test_nodes_do_not_reap_each_other_after_an_outage(with_one_shard: Any) -> None:
    """The first one gives the others the time between two heartbeats, though all leases have expired.

    Also one whose last heartbeat before the outage was late.
    """

    async def life(nodes: Nodes) -> None:
        first, watcher = await nodes.member("ann", "a", notify_presence=True)
        second, _ = await nodes.member("bob", "a")
        manager, now_s = first._links.lease_managers[0], asyncio.get_running_loop().time()
        [early], [late] = first._shards, second._shards
        establish_early, establish_late = early.establish, late.establish

        async def unreachable() -> None:
            raise Unavailable("It is out of reach.")

        early.establish = late.establish = unreachable  # type: ignore[method-assign]
        manager._record_dead([second.cluster._registrar.node], now_s)
        cut(first)
        cut(second)
        await asyncio.sleep(1.2)  # real time: longer than a lease of Redis.
        early.establish = establish_early  # type: ignore[method-assign]
        await soon(lambda: early.is_linked)
        # The heartbeat that was due meanwhile, as in an outage.
        await manager._heartbeat()
        await first.replay("nobody", {}, 0)
        assert parted(watcher) == []
        late.establish = establish_late  # type: ignore[method-assign]

    with_one_shard(life)


def test_dead_nodes_are_unregistered_in_small_steps(with_one_shard: Any) -> None:
    """However many channels their connections are in, so that Redis serves others in between."""

    async def life(nodes: Nodes) -> None:
        dying, recorder = await nodes.node()
        channels = {f"c{number}": {} for number in range(50)}
        for number in range(10):
            member = Member(f"k{number}", f"u{number}", V07)
            recorder.members[member.conn_id] = (member, set(channels))
            await dying.connect(member, EMPTY)
            await dying.join(member, channels)
        await dying.close()
        living, watcher = await nodes.node()
        [shard] = living._shards
        call, left = shard.client.call, []

        async def recorded(operation: str, **arguments: Any) -> Any:
            answer = await call(operation, **arguments)
            if operation == "reap":
                left.append(answer)
            return answer

        shard.client.call = recorded  # type: ignore[method-assign]
        await soon(lambda: bool(watcher.dead))
        *steps, last = left
        assert last[:2] == [b"node 0", b"10"]
        assert [ended for _, ended in watcher.dead] == [10]
        assert len(steps) >= 4
        assert all(before - after <= 3 for before, after in pairwise([10, *steps, 0]))

    with_one_shard(life)


def test_a_dead_node_is_reported_once(with_nodes: Any) -> None:
    """By one of the nodes that live, with the connections that no other node has claimed; no shard knows that of several."""

    async def life(nodes: Nodes) -> None:
        dying, recorder = await nodes.member("ann", "a")
        moved = Member("bob", "bob", V07)
        recorder.members[moved.conn_id] = (moved, {"a", "b"})
        await dying.connect(moved, EMPTY)
        await dying.join(moved, {"a": {}, "b": {}})
        living, one = await nodes.node()
        other, another = await nodes.node()
        claim = await living.cluster.claim("bob", orphan=False, request_release=at_once)
        assert claim is not None
        one.members["bob"] = (moved, {"a", "b"})
        await dying.close()
        await soon(lambda: bool(one.dead or another.dead))
        await soon(lambda: are_left(living, other))
        [(dead, ended)] = one.dead + another.dead
        assert (dead.label, ended, dead.is_alive) == ("node 0", 1 if nodes.shards == 1 else None, False)
        assert dead.heartbeat_s <= time.time()

    async def are_left(*engines: Any) -> bool:
        """Whether every node has seen that two are left."""
        return all([len(await engine.cluster.nodes()) == 2 for engine in engines])

    with_nodes(life)
