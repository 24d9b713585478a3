"""One log in several shards, of one Redis or of a cluster."""

import asyncio
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.engines.conformance import EMPTY, message
from tests.engines.conformance.nodes import received
from tests.engines.redis.nodes import SHORT_S, Nodes, big, channel_in, counted, names_in, published
from tests.redis_server import RedisServer, held_ports, redis_cluster
from tests.waiting import soon

from channelstream.core.position import Position, shard_of
from channelstream.engines.members import Member
from channelstream.engines.redis.address import prefixes, shard_addresses
from channelstream.errors import Unavailable
from channelstream.wire.channelstream import V07


def test_positions_never_decrease(with_three_shards: Any) -> None:
    """Each event a node hands on is of one shard, and the received offsets of the others stay."""

    async def life(nodes: Nodes) -> None:
        channels = [channel_in(shard, 3) for shard in range(3)]
        _, listener = await nodes.member("ann", *channels)
        speaker, _ = await nodes.node()
        events = [message(f"m{number}", channel=channels[number % 3]) for number in range(90)]
        await asyncio.gather(*(speaker.publish([event]) for event in events))
        await soon(lambda: len(received(listener)) == 90)
        offsets = [entry.offsets for entry in listener.entries]
        for before, after in pairwise(offsets):
            assert sum(late > early for early, late in zip(before, after, strict=True)) == 1
        assert {entry.shard for entry in listener.entries} == {0, 1, 2}
        assert str(listener.entries[-1].position) == str(Position(speaker.position.epochs, offsets[-1]))

    with_three_shards(life)


def test_a_private_message_to_users_of_many_shards_reaches_each_once(with_three_shards: Any) -> None:
    """And a repetition is recognized."""

    async def life(nodes: Nodes) -> None:
        users = [channel_in(shard, 3) for shard in range(3)]
        recorders = [(await nodes.member(user))[1] for user in users]
        speaker, _ = await nodes.node()
        event = message("p1", channel=None, only=frozenset(users))
        [first] = await speaker.publish([event])
        [again] = await speaker.publish([event])
        assert (first.duplicate, again.duplicate) == (False, True)
        for user, recorder in zip(users, recorders, strict=True):
            await soon(lambda recorder=recorder: len(recorder.entries) == 1)  # type: ignore[misc]
            assert recorder.entries[0].event.only == {user}

    with_three_shards(life)


def test_a_loss_in_one_shard_leaves_the_others(redis: RedisServer, with_three_shards: Any) -> None:
    """Only its epoch changes; its registrations are restored."""

    async def life(nodes: Nodes) -> None:
        channels = [channel_in(shard, 3) for shard in range(3)]
        engine, listener = await nodes.member("ann", *channels)
        before = engine.position
        prefix = prefixes(3)[1]
        for key in redis.cli("KEYS", f"{prefix}*").splitlines():
            redis.cli("DEL", key)
        await published(engine, message("m1", channel=channels[1]))
        await soon(lambda: listener.renewals == 1)
        pairs = zip(before.epochs, engine.position.epochs, strict=True)
        assert [old == new for old, new in pairs] == [True, False, True]
        await counted(engine, {name: {"ann": 1} for name in channels})

    with_three_shards(life)


@pytest.mark.slow
def test_a_cluster_of_three_masters_shares_the_log(tmp_path: Path) -> None:
    """Each has a shard and publishes only to those who listen there; the address gives the number."""

    async def life(cluster: str, masters: list[RedisServer]) -> None:
        nodes = Nodes(shard_addresses(cluster))
        channels = [channel_in(shard, 3) for shard in range(3)]
        _, listener = await nodes.member("ann", *channels, notify_presence=True)
        speaker, _ = await nodes.node()
        private = message("p", channel=None, only=frozenset({"ann"}))
        await speaker.publish([*(big(name, channel=name) for name in channels), private])
        await soon(lambda: sorted(received(listener)) == sorted(["p", *map("m{}".format, channels)]))
        starts = dict.fromkeys(channels, 0)
        assert len((await speaker.replay("ann", starts, 100)).entries) == 6
        if masters[0].cli("PUBSUB", "SHARDNUMSUB") == "":  # Redis 6.2 has no sharded publish.
            for master in masters:
                assert master.cli("PUBSUB", "SHARDCHANNELS", "*#c:*").count("#c:") == 1
                assert master.cli("PUBSUB", "CHANNELS") == ""
        await nodes.close()

    with redis_cluster(tmp_path, 3) as masters:
        members = ",".join(f"127.0.0.1:{master.port}" for master in masters)
        asyncio.run(life(f"redis+cluster://{members}", masters))


@pytest.mark.slow
def test_a_lost_master_of_a_cluster_loses_only_its_shard(tmp_path: Path) -> None:
    """While it is away only calls about its channels are refused; back without data, it has a new epoch."""

    async def life(cluster: str, masters: list[RedisServer]) -> None:
        nodes = Nodes(shard_addresses(cluster), SHORT_S)
        channels = [channel_in(shard, 3) for shard in range(3)]
        engine, listener = await nodes.member("ann", *channels)
        await engine.publish([message("before", channel=name) for name in channels])
        before = engine.position
        away = next(master for master in masters if master.cli("KEYS", f"{prefixes(3)[2]}*"))
        away.kill()
        with pytest.raises(Unavailable):
            await engine.publish([message("m1", channel=channels[2])])
        await engine.publish([message("m1", channel=channels[0]), message("m1", channel=channels[1])])
        # A change that cannot be made whole is not begun.
        more = [
            next(name for name in map("d{}".format, range(100)) if shard_of(name, 3) == n) for n in (0, 2)
        ]
        with pytest.raises(Unavailable):
            await engine.join(Member("ann", "ann", V07), {name: {} for name in more})
        assert not await engine.channels(more[:1])
        assert (engine.is_reachable, engine.is_partly_reachable) == (False, True)
        away.start()
        await published(engine, message("m2", channel=channels[2]))
        await soon(lambda: received(listener)[-1] == "m2")
        pairs = zip(before.epochs, engine.position.epochs, strict=True)
        assert [old == new for old, new in pairs] == [True, True, False]
        assert received(listener).count("m1") == 2
        await nodes.close()

    with redis_cluster(tmp_path, 3, "--cluster-require-full-coverage", "no") as masters:
        members = ",".join(f"127.0.0.1:{master.port}" for master in masters)
        asyncio.run(life(f"redis+cluster://{members}?shards=3", masters))


def test_a_shard_out_of_reach_does_not_cost_the_link_with_another(
    redis: RedisServer, with_three_shards: Any
) -> None:
    """A connection that cannot be restored yet, as its user is in another shard, waits for a later heartbeat."""

    async def life(nodes: Nodes) -> None:
        [channel, *_] = names_in(1, "c")
        engine, recorder = await nodes.node()
        member = Member(names_in(0, "k")[0], names_in(0, "u")[0], V07)
        recorder.members[member.conn_id] = (member, {channel})
        await engine.connect(member, EMPTY)
        await engine.join(member, {channel: {}})
        home, away, _ = engine._shards
        establish, establish_away, links = home.establish, away.establish, 0

        async def unreachable() -> None:
            raise Unavailable("It is out of reach.")

        async def establish_and_count() -> None:
            nonlocal links
            links += 1
            await establish_away()

        home.establish, away.establish = unreachable, establish_and_count  # type: ignore[method-assign]
        prefix = prefixes(3)[1]
        redis.cli(
            "DEL", *(prefix + key for key in (f"k:{member.conn_id}", f"kc:{member.conn_id}", f"cu:{channel}"))
        )
        redis.cli("DEL", f"{prefix}nk:{engine.cluster._registrar.node}")
        for shard in (home, away):
            assert shard.link.present is not None
            shard.link.present.abandon("the test cuts it")
        await asyncio.sleep(1.5)  # real time: longer than a lease of Redis.
        assert (links, away.is_linked) == (1, True)
        home.establish = establish  # type: ignore[method-assign]
        await soon(lambda: home.is_linked)
        await counted(engine, {channel: {member.user: 1}})

    with_three_shards(life)


def test_a_cluster_that_names_no_host_means_the_member_that_was_asked(
    redis: RedisServer, tmp_path: Path
) -> None:
    """As Redis 7 and later may answer, where members have no name that every client can resolve."""
    if "redis_version:6" in redis.cli("INFO", "server"):
        pytest.skip("This Redis always names hosts.")
    flags = (
        "--save",
        "",
        "--cluster-enabled",
        "yes",
        "--cluster-preferred-endpoint-type",
        "unknown-endpoint",
    )
    with held_ports(1) as [port]:
        server = RedisServer(tmp_path, *flags, port=port)
        server.start()
        try:
            server.cli("CLUSTER", "ADDSLOTS", *map(str, range(16_384)))
            [place] = shard_addresses(f"redis+cluster://127.0.0.1:{port}?shards=1")

            async def connected() -> None:
                connection: Any = place.connect()
                await connection.connect()
                await connection.disconnect(nowait=True)

            asyncio.run(connected())
        finally:
            server.kill()
