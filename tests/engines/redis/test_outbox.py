"""The outbox in Redis: dead nodes, lost data, and what its scripts cost."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from tests.engines.conformance import EMPTY, message
from tests.engines.conformance.lab import ALL_FACTS
from tests.engines.conformance.nodes import WithNodes, facts_in
from tests.engines.conformance.outbox import fact_form, missed
from tests.engines.redis.conftest import run_on
from tests.engines.redis.nodes import PREFIX, Nodes, channel_in
from tests.engines.redis.test_moving import next_process, state_of
from tests.engines.redis.test_script_bounds import COMMANDS, FEW, at_most_in_a_script, for_each_script
from tests.redis_server import RedisServer
from tests.waiting import PATIENCE_S, soon

from channelstream.apps.keys import DEFAULT, make_key, make_member_key
from channelstream.core.facts import Fact, UserOnline, encode
from channelstream.engines.base import Engine
from channelstream.engines.members import Member
from channelstream.engines.outbox import OutboxSettings, passed
from channelstream.errors import Unavailable
from channelstream.wire.channelstream import V07

OPERATION, SETTINGS = 8, 12
"""Where a call of the script has its operation, and behind its deadline which facts are wanted (`lua/10_script.lua`)."""
LOGGED = "10000"
"""Commands that Redis logs, those of scripts included."""


def test_the_node_that_reaps_keeps_the_facts_of_the_dead_one(with_nodes: WithNodes) -> None:
    """Each once, in every shard, and nothing about those who live."""

    async def life(nodes: Nodes) -> None:
        nodes.outbox = ALL_FACTS
        channels = [channel_in(shard, nodes.shards) for shard in range(nodes.shards)]
        dying, _ = await nodes.member("ann", *channels, notify_presence=True)
        living, _ = await nodes.member("bob", channels[0])
        before = await facts_in(living, *channels, "ann")
        await dying.close()
        expected = [("offline",), ("closed",), *[("removed",), ("vacated",)] * nodes.shards]

        async def ended() -> list[str]:
            found = list(await facts_in(living, *channels, "ann"))
            for each in before:
                found.remove(each)
            return sorted(each[0] for each in found)

        expected.remove(("vacated",))
        await soon(lambda: is_equal(ended, sorted(kind for (kind,) in expected)))
        assert ("vacated", channels[0]) not in await facts_in(living, channels[0])

    with_nodes(life)


async def is_equal(actual: object, expected: list[str]) -> bool:
    assert callable(actual)
    return await actual() == expected


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that the test may kill."""
    server = RedisServer(tmp_path / "redis", "--save", "")
    server.start()
    yield server
    server.kill()


@pytest.mark.parametrize("shards", [1, 3])
def test_facts_outlive_a_restart_of_redis(own_redis: RedisServer, shards: int) -> None:
    """As far as Redis keeps them; a number that was lost is not given again, so no consumer passes what it has not read."""

    async def life(nodes: Nodes) -> None:
        nodes.outbox = ALL_FACTS
        engine, _ = await nodes.member("ann", "a")
        outbox = engine.outbox
        everywhere = missed(*(channel_in(shard, shards) for shard in range(shards)))
        await outbox.append(everywhere)
        before = await outbox.read(DEFAULT, outbox.beginning, 100)
        assert own_redis.cli("SAVE") == "OK"
        await outbox.append(everywhere * 2)
        lost = passed(outbox.beginning, await outbox.read(DEFAULT, outbox.beginning, 100))
        epochs = engine.position.epochs
        own_redis.kill()
        own_redis.start()
        await soon(lambda: set(engine.position.epochs).isdisjoint(epochs))
        await eventually_appended(engine, everywhere)
        kept = await outbox.read(DEFAULT, outbox.beginning, 100)
        assert set(before) <= set(kept)
        assert {each.shard for each in kept if each.number > lost[each.shard]} == set(range(shards))

    run_on(own_redis, shards, life)


async def eventually_appended(engine: Engine, facts: list[Fact]) -> None:
    """Append, again while a shard is out of reach."""

    async def is_done() -> bool:
        try:
            await engine.outbox.append(facts)
        except Unavailable:
            return False
        return True

    await soon(is_done)


def test_a_node_that_moves_to_another_process_still_holds_the_lease(with_nodes: WithNodes) -> None:
    """It is the same node: nobody else becomes the sender."""

    async def life(nodes: Nodes) -> None:
        nodes.outbox = ALL_FACTS
        engine, recorder = await nodes.node()
        other, _ = await nodes.node()
        token = await engine.outbox.hold(60.0)
        after, _ = await next_process(nodes, await state_of(engine), recorder)
        assert await other.outbox.hold(60.0) is None
        assert await after.outbox.hold(60.0) == token

    with_nodes(life)


def test_a_fact_of_a_newer_version_is_passed(with_one_shard: WithNodes, redis: RedisServer) -> None:
    """It has a number, so a consumer goes on behind it."""

    async def life(nodes: Nodes) -> None:
        engine, _ = await nodes.node()
        redis.cli("XADD", f"{PREFIX}facts:{DEFAULT}", "7-0", "f", "newer")
        [found] = await engine.outbox.read(DEFAULT, (0,), 10)
        assert found == (0, 7, None)

    with_one_shard(life)


def test_facts_of_nodes_of_an_older_version_are_sent(with_nodes: WithNodes, redis: RedisServer) -> None:
    """Each once, by its application, whatever the cursors of those nodes have passed."""

    async def life(nodes: Nodes) -> None:
        nodes.outbox = ALL_FACTS
        engine, _ = await nodes.node()
        outbox, keys = engine.outbox, [make_key("shop", "s"), make_key("shop", "\x1f")]
        places = [channel_in(shard, nodes.shards) for shard in range(nodes.shards)] + keys
        member = UserOnline(id="of a member", at_ms=1, user=make_member_key("shop", "a", "ann"))
        for number, fact in enumerate([*missed(*places), member], 7):
            shard = engine._shards.at(fact.place)
            client, prefix = shard.client, shard.client.prefix
            for command in (
                ("HSET", f"{prefix}outbox", "n", "1", "bytes", "9"),
                ("HSET", f"{prefix}cursors", "one", "100"),
                ("XADD", f"{prefix}facts", f"{number}-0", "f", encode(fact)),
            ):
                await client.command_on(shard.link.linked(), *command)

        async def are_adopted() -> bool:
            return (await outbox.state()).facts == len(places) + 1 and not redis.cli(
                "KEYS", "*}facts"
            ).split()

        await soon(are_adopted)
        assert await outbox.cursors() == {}
        for app_id, names in ((DEFAULT, places[: nodes.shards]), ("shop", [*keys, member.place])):
            found = await outbox.read(app_id, outbox.beginning, 100)
            assert sorted(each.fact.place for each in found if each.fact) == sorted(names)
            assert min(each.number for each in found) > 7
        await engine.outbox.append(missed(places[0]))
        assert (await outbox.state()).facts == len(places) + 2

    with_nodes(life)


def test_what_all_applications_keep_is_counted_again(with_one_shard: WithNodes, redis: RedisServer) -> None:
    """When cursors are set, and before any are dropped: nodes of an older version leave the sums as they are."""

    async def life(nodes: Nodes) -> None:
        nodes.outbox = OutboxSettings(total_facts=10)
        engine, _ = await nodes.node()
        outbox = engine.outbox
        await outbox.append(missed(*"abcde", make_key("shop", "s"), make_key("shop", "t")))

        async def after(all_n: int) -> tuple[int, int, str]:
            redis.cli("HSET", f"{PREFIX}outbox", "all_n", str(all_n))
            await outbox.append(missed("f"))
            state = await outbox.state()
            return state.facts, state.dropped, redis.cli("HGET", f"{PREFIX}outbox", "all_n")

        assert await after(1000) == (8, 0, "8")
        assert await after(0) == (9, 0, "7")
        token = await outbox.hold(60.0)
        assert token is not None
        await outbox.settle(token, {name: {name: outbox.beginning} for name in (DEFAULT, "shop")})
        assert redis.cli("HGET", f"{PREFIX}outbox", "all_n") == "9"

    with_one_shard(life)


def test_what_is_far_too_much_is_dropped_little_by_little(with_one_shard: WithNodes) -> None:
    """As after an upgrade from a version without a bound for all applications: no script works for long."""

    async def life(nodes: Nodes) -> None:
        nodes.outbox = OutboxSettings()
        engine, _ = await nodes.node()
        for app_id in "abc":
            await engine.outbox.append(missed(*[make_key(app_id, "a")] * 2000))
        nodes.outbox = OutboxSettings(total_facts=1000)
        engine, _ = await nodes.node()
        counts = [6000]
        while counts[-1] > 1000:
            await engine.outbox.append(missed("a"))
            counts.append((await engine.outbox.state()).facts)
        assert all(before - after < 2100 for before, after in pairwise(counts))

    with_one_shard(life)


def test_without_webhooks_nothing_is_kept(with_one_shard: WithNodes, redis: RedisServer) -> None:
    """With all facts a join takes ten more commands at most."""

    async def cost(nodes: Nodes, name: str) -> float:
        engine, recorder = await nodes.node()
        member = Member(name, name, V07)
        recorder.members[name] = (member, set())
        await engine.connect(member, EMPTY)
        return await for_each_script(redis, engine.join(member, {f"of {name}": {"notify_presence": True}}))

    async def life(nodes: Nodes) -> None:
        without = await cost(nodes, "ann")
        keys = redis.cli("KEYS", "*").split("\n")
        assert not [key for key in keys if key in (f"{PREFIX}facts:{DEFAULT}", f"{PREFIX}outbox")]
        nodes.outbox = ALL_FACTS
        assert without < await cost(nodes, "bob") <= without + 10

    with_one_shard(life, lease_s=PATIENCE_S)


def test_only_calls_that_may_change_members_are_sent_what_is_wanted(
    with_one_shard: WithNodes, redis: RedisServer
) -> None:
    """Which facts are wanted is about a hundred bytes for each application, and most calls publish."""

    async def life(nodes: Nodes) -> None:
        nodes.outbox = ALL_FACTS
        engine, _ = await nodes.member("ann", "a")
        await engine.publish([message("m")])
        await engine.channels(["a"])
        shard = engine._shards.by_index(0)
        found = await shard.client.command_on(shard.link.linked(), "SLOWLOG", "GET", LOGGED)
        scripts = [args for _, _, _, args, *_ in found if args[0] == b"EVALSHA"]
        calls = {args[OPERATION].decode(): args[SETTINGS:] for args in scripts}
        assert {operation for operation, settings in calls.items() if not settings} >= {"publish", "channels"}
        assert {operation for operation, settings in calls.items() if settings} >= {"connect", "join"}

    redis.cli("SLOWLOG", "RESET")
    redis.cli("CONFIG", "SET", "slowlog-log-slower-than", "0")
    redis.cli("CONFIG", "SET", "slowlog-max-len", LOGGED)
    try:
        with_one_shard(life)
    finally:
        redis.cli("CONFIG", "SET", "slowlog-log-slower-than", "10000")
        redis.cli("CONFIG", "SET", "slowlog-max-len", "128")


@pytest.mark.slow
def test_scripts_of_very_many_facts_are_bounded(with_one_shard: WithNodes, redis: RedisServer) -> None:
    """To append, to drop the oldest at the bound, and to drop what all consumers have passed."""

    async def life(nodes: Nodes) -> None:
        nodes.outbox = OutboxSettings(ALL_FACTS.wanted, most_facts=6000)
        engine, _ = await nodes.node()
        outbox = engine.outbox
        many: list[Fact] = missed(*(f"c{number}" for number in range(7000)))
        assert await at_most_in_a_script(redis, engine, outbox.append(many)) < COMMANDS
        state = await outbox.state()
        assert (state.facts, state.dropped) == (6000, 1000)
        token = await outbox.hold(60.0)
        assert token is not None
        assert await at_most_in_a_script(redis, engine, outbox.settle(token, {})) < COMMANDS
        assert await outbox.read(DEFAULT, outbox.beginning, 10) == []

    with_one_shard(life, lease_s=PATIENCE_S)


@pytest.mark.slow
def test_settling_very_many_applications_is_bounded(with_one_shard: WithNodes, redis: RedisServer) -> None:
    """Those that have nothing to drop take two commands each while they have facts, and none otherwise."""
    apps = [f"a{number}" for number in range(900)]

    async def life(nodes: Nodes) -> None:
        engine, _ = await nodes.node()
        outbox = engine.outbox
        await outbox.append(missed(*(make_key(app_id, "c") for app_id in apps)))
        [first] = await outbox.read(apps[0], outbox.beginning, 5)
        token = await outbox.hold(60.0)
        assert token is not None
        waiting = {app_id: {f"of {app_id}": outbox.beginning} for app_id in apps}
        assert await at_most_in_a_script(redis, engine, outbox.settle(token, waiting)) < COMMANDS
        waiting[apps[0]] = {f"of {apps[0]}": (first.number,)}
        assert await at_most_in_a_script(redis, engine, outbox.settle(token, waiting)) < COMMANDS
        assert (await outbox.state()).facts == len(apps) - 1
        assert await at_most_in_a_script(redis, engine, outbox.settle(token, {})) < COMMANDS
        assert (await outbox.state())[:2] == (0, 0)
        assert await at_most_in_a_script(redis, engine, outbox.settle(token, {})) < FEW
        await outbox.append(missed(make_key(apps[0], "d")))
        [second] = await outbox.read(apps[0], (first.number,), 5)
        assert second.number > first.number

    with_one_shard(life, lease_s=PATIENCE_S)


def test_the_keys_of_an_outbox_that_nobody_sends_from_expire(
    with_nodes: WithNodes, redis: RedisServer
) -> None:
    """A service whose webhooks were removed leaves nothing behind for ever."""

    async def life(nodes: Nodes) -> None:
        nodes.outbox = ALL_FACTS
        engine, _ = await nodes.member("ann", "a")
        token = await engine.outbox.hold(60.0)
        assert token is not None
        await engine.outbox.settle(token, {DEFAULT: {"one": engine.outbox.beginning}})
        for name in (f"facts:{DEFAULT}", "outbox", "passed"):
            for key in redis.cli("KEYS", f"*:{name}").split():
                assert 0 < int(redis.cli("PTTL", key)) <= OutboxSettings().kept_s * 1000

    with_nodes(life)


def test_the_script_writes_the_stored_form(with_one_shard: WithNodes, redis: RedisServer) -> None:
    """An array of MessagePack, as Python encodes it."""

    async def life(nodes: Nodes) -> None:
        nodes.outbox = ALL_FACTS
        engine, _ = await nodes.member("ann", "a", notify_presence=True)
        for each in await engine.outbox.read(DEFAULT, (0,), 100):
            stored = await engine._shards.by_index(0).client.command_on(
                engine._shards.by_index(0).link.linked(),
                "XRANGE",
                f"{PREFIX}facts:{DEFAULT}",
                each.number,
                each.number,
            )
            [kind, fact_id, at_ms, *subject] = msgspec.msgpack.decode(stored[0][1][1])
            assert each.fact is not None
            assert (kind, *subject) == fact_form(each.fact)
            assert (fact_id, at_ms) == (each.fact.id, each.fact.at_ms)

    with_one_shard(life)
