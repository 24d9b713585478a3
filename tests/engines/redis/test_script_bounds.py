"""What scripts cost: their commands, lookups and bytes are bounded."""

from collections.abc import Awaitable
from typing import Any

import pytest
from msgspec.structs import replace
from tests.engines.conformance import EMPTY, delete, edit, message, private
from tests.engines.redis.nodes import (
    PREFIX,
    READ_BYTES,
    Nodes,
    enter,
    event_of,
    replaced_for,
    sent_to_scripts,
)
from tests.redis_server import RedisServer
from tests.waiting import PATIENCE_S, soon

from channelstream.engines.members import Member
from channelstream.engines.redis.engine import RedisEngine
from channelstream.engines.redis.shard_client import CHUNK
from channelstream.wire.channelstream import V07

COMMANDS = 2_100
"""Most commands of one script: 2,000, and those of the current step."""

FEW = 60
"""More commands than a script takes that reads or deletes the records of a message: many by one command."""


def commands(redis: RedisServer) -> tuple[int, int]:
    """How many commands there were, and how many scripts."""
    lines = redis.cli("INFO", "commandstats").splitlines()
    calls = {
        line.partition(":")[0]: int(line.partition("calls=")[2].partition(",")[0])
        for line in lines
        if "calls=" in line
    }
    scripts = calls.get("cmdstat_evalsha", 0)
    return sum(calls.values()) - scripts, scripts


async def for_each_script(redis: RedisServer, work: Awaitable[Any]) -> float:
    """Do it, and return how many commands its scripts had on average, heartbeats included."""
    before = commands(redis)
    await work
    after = commands(redis)
    return (after[0] - before[0]) / (after[1] - before[1])


async def at_most_in_a_script(redis: RedisServer, engine: RedisEngine, work: Awaitable[Any]) -> int:
    """Do it, and return how many commands the longest of its scripts had."""
    [shard] = engine._shards
    step, most = shard.client.step, 0

    async def counted_step(operation: str, **arguments: Any) -> Any:
        nonlocal most
        before = commands(redis)
        answer = await step(operation, **arguments)
        most = max(most, commands(redis)[0] - before[0])
        return answer

    shard.client.step = counted_step  # type: ignore[method-assign]
    await work
    return most


@pytest.mark.usefixtures("stopped_time")
def test_a_script_stops_at_a_number_of_commands(
    redis: RedisServer, with_one_shard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the clock does not move within a script, as from Redis 7.2 on, nothing else bounds it."""

    async def life(nodes: Nodes) -> None:
        engine, _ = await nodes.member("ann", "a")
        names = [f"many-{number}" for number in range(2_000)]
        join = engine.join(Member("ann", "ann", V07), {name: {} for name in names})
        assert await at_most_in_a_script(redis, engine, join) <= COMMANDS
        connect = engine.connect(Member("bob", "bob", V07), EMPTY, {name: {} for name in names})
        assert await at_most_in_a_script(redis, engine, connect) <= COMMANDS

    # A call that names as many as the engine's own does ends before.
    monkeypatch.setattr("channelstream.engines.redis.connections.CHUNK", 1_000)
    with_one_shard(life, lease_s=PATIENCE_S)


@pytest.mark.usefixtures("stopped_time")
def test_what_is_kept_for_users_whom_a_change_excludes_counts(
    redis: RedisServer, with_one_shard: Any
) -> None:
    """The change is written into the log of each of them, though it is not published to them."""

    async def life(nodes: Nodes) -> None:
        node = engine, _ = await nodes.node()
        users = [f"u{number}" for number in range(20)]
        for user in users:
            await enter(node, user, "a", {})
        uuids = [f"p{number}" for number in range(10)]
        await engine.publish([private(uuid, *users) for uuid in uuids])
        text, everybody = b'"%b"' % (b"x" * 60_000), frozenset(users)
        edits = [edit(uuid, text, channel=None, only=everybody, exclude=everybody) for uuid in uuids]
        # A script stops after each of them; five of them have 2,000 commands.
        assert await at_most_in_a_script(redis, engine, engine.publish(edits)) < 1_000

    with_one_shard(life, lease_s=PATIENCE_S)


def test_answers_about_many_users_are_bounded_in_bytes(with_one_shard: Any) -> None:
    """However big their states are: a script answers as many as fit, and the next one continues."""

    async def life(nodes: Nodes) -> None:
        node = engine, _ = await nodes.node()
        users = [f"u{number}" for number in range(30)]
        for user in users:
            await enter(node, user, "a", {"big": "x" * 60_000})
        sizes = sent_to_scripts(engine)
        reported = await engine.states(dict.fromkeys(users, "a"))
        found = await engine.users(users)
        assert [len(str(each.state["big"])) for each in (*reported, *found)] == [60_000] * 60
        assert max(sizes) < READ_BYTES // 2

    with_one_shard(life)


def test_a_list_of_users_costs_a_script_one_lookup_each(redis: RedisServer, with_one_shard: Any) -> None:
    """However many keys of their states are public: the public state of a user is built when it changes."""

    async def life(nodes: Nodes) -> None:
        settings = {"notify_presence": True, "broadcast_presence_with_user_lists": True}
        node = engine, recorder = await nodes.member("ann", "a", **settings)
        state = {f"key-{number}": number for number in range(40)}
        users = [f"u{number}" for number in range(100)]
        for user in users:
            await enter(node, user, "a", state)
        recorder.members["u0"][1].clear()
        leave = engine.leave(Member("u0", "u0", V07), ["a"])
        assert await for_each_script(redis, leave) < 200
        await soon(lambda: recorder.entries and not recorder.entries[-1].event.joined)
        listed = dict(recorder.entries[-1].event.users)
        assert listed == {"ann": {}} | dict.fromkeys(users[1:], state)

    with_one_shard(life, lease_s=PATIENCE_S)


def test_a_list_of_users_is_bounded_in_bytes(with_one_shard: Any) -> None:
    """A channel whose members have big public states announces them without a list."""

    async def life(nodes: Nodes) -> None:
        settings = {"notify_presence": True, "broadcast_presence_with_user_lists": True}
        node = _, recorder = await nodes.member("ann", "a", **settings)
        for number in range(7):
            await enter(node, f"u{number}", "a", {"big": "x" * 50_000})
        await soon(lambda: len(recorder.entries) >= 8)
        lists = [(len(each.users), each.users_cut) for each in map(event_of, recorder.entries)]
        assert lists == [*((number, False) for number in range(1, 4)), *[(0, True)] * 5]

    with_one_shard(life)


def test_changes_of_one_message_for_many_users_are_bounded(redis: RedisServer, with_one_shard: Any) -> None:
    """A log keeps some forms of a message, read by few commands; a client that needs an older one is sent the loss."""

    async def life(nodes: Nodes) -> None:
        engine, _ = await nodes.node()
        await engine.configure({"a": {"log_events": 10_000}})
        await engine.publish([message("m1")])
        changes = [replaced_for(edit("m1", b'"%d"' % number), f"u{number}") for number in range(300)]
        await engine.publish(changes[:-1])
        assert await for_each_script(redis, engine.publish(changes[-1:])) < FEW
        assert int(redis.cli("XLEN", f"{PREFIX}cl:a")) <= 252
        replay = await engine.replay("ann", {"a": 1}, 10)
        assert replay.lost == {"a"}
        behind = await engine.replay("ann", {"a": 298}, 10)
        assert [entry.event for entry in behind.entries] == changes[-3:]
        # The message is still known, and taken back for all of them at once.
        [again] = await engine.publish([message("m1", only=frozenset({"u1"}))])
        assert again.duplicate
        assert await for_each_script(redis, engine.publish([delete("m1")])) < FEW
        assert int(redis.cli("XLEN", f"{PREFIX}cl:a")) == 1

    with_one_shard(life, lease_s=PATIENCE_S)


def test_names_in_the_records_of_a_message_are_bounded(redis: RedisServer, with_one_shard: Any) -> None:
    """They count for more than their bytes, as each is compared: a few thousand short ones fill the log of a message."""

    async def life(nodes: Nodes) -> None:
        engine, _ = await nodes.node()
        users = [[f"{group}{number:04}" for number in range(2_500)] for group in range(8)]
        messages = [replaced_for(message("m1"), *names) for names in users]
        await engine.configure({"a": {}})
        await engine.publish([message("m0"), *messages])
        [again] = await engine.publish(messages[-1:])
        assert again.duplicate
        # The first one and the three newest, each of which counts for 97 KB: 17 KB of names, and 32 bytes for each of these.
        assert int(redis.cli("XLEN", f"{PREFIX}cl:a")) == 1 + 1 + 3
        assert (await engine.replay("ann", {"a": 5}, 10)).lost == {"a"}
        kept = (await engine.replay("ann", {"a": 6}, 10)).entries
        assert [len(each.event.only or ()) for each in kept] == [2_500] * 3

    with_one_shard(life, lease_s=PATIENCE_S)


def test_a_message_is_known_by_an_edit_that_overtook_it(with_one_shard: Any) -> None:
    """Where the log has lost the message by changes for many users, and has kept what came before it."""

    async def life(nodes: Nodes) -> None:
        engine, _ = await nodes.node()
        await engine.configure({"a": {"log_events": 1000}})
        await engine.publish([edit("m1"), message("m1"), edit("m2", only=frozenset({"ann"})), message("m2")])
        changes = [edit("m1", b'"%d"' % number, only=frozenset({f"u{number}"})) for number in range(260)]
        await engine.publish(changes)
        assert (await engine.replay("ann", {"a": 2}, 10)).lost == {"a"}
        assert all(each.duplicate for each in await engine.publish([message("m1"), message("m2")]))

    with_one_shard(life, lease_s=PATIENCE_S)


def test_an_edit_writes_few_bytes_however_often_its_message_was_published(
    redis: RedisServer, with_one_shard: Any
) -> None:
    """For further users each time: forms that are too much leave the log, and a client from before is sent the loss."""

    async def life(nodes: Nodes) -> None:
        engine, _ = await nodes.node()
        await engine.configure({"a": {"log_events": 1000}})
        users = [f"u{number}" for number in range(100)]
        await engine.publish([replaced_for(message("m1"), user) for user in users])
        assert not (await engine.replay("u0", {"a": 0}, 1)).lost
        [change] = await engine.publish([edit("m1", b'"%b"' % (b"x" * 60_000))])
        assert change.found
        assert int(redis.cli("MEMORY", "USAGE", f"{PREFIX}cr:a", "SAMPLES", "0")) < READ_BYTES
        assert (await engine.replay("u0", {"a": 0}, 1)).lost == {"a"}
        [deletion] = await engine.publish([delete("m1")])
        assert deletion.found

    with_one_shard(life, lease_s=PATIENCE_S)


def used_s(redis: RedisServer) -> float:
    """The processor time that the server has used: other work on the machine hardly lengthens it."""
    lines = redis.cli("INFO", "cpu").splitlines()
    return sum(
        float(line.partition(":")[2])
        for line in lines
        if line.startswith(("used_cpu_user:", "used_cpu_sys:"))
    )


def test_a_message_after_very_many_for_some_users_takes_no_seconds(
    redis: RedisServer, with_one_shard: Any
) -> None:
    """All their names are left out at once: it took 0.5 s of CPU, and takes 0.02 s."""

    async def life(nodes: Nodes) -> None:
        engine, _ = await nodes.node()
        await engine.configure({"a": {"log_events": 1000}})
        users = [[f"u{group}.{number}" for number in range(60)] for group in range(250)]
        await engine.publish([replaced_for(message("m1"), *names) for names in users])
        before = used_s(redis)
        [everybody, again] = await engine.publish([message("m1"), message("m1")])
        assert used_s(redis) - before < 0.15
        assert [each.duplicate for each in (everybody, again)] == [False, True]

    with_one_shard(life, lease_s=PATIENCE_S)


@pytest.mark.parametrize(("edits", "size", "forms"), [(50, 10, 51), (51, 10, 1), (50, 60_000, 1)])
def test_a_message_is_accepted_in_few_forms_however_many_edits_it_comes_after(
    redis: RedisServer, with_one_shard: Any, edits: int, size: int, forms: int
) -> None:
    """Where they are too many or too long, users of the edits have these only; all others get the message."""

    async def life(nodes: Nodes) -> None:
        engine, _ = await nodes.node()
        await engine.configure({"a": {"log_events": 1000}})
        users = [f"u{number}" for number in range(edits)]
        await engine.publish([edit("m1", payload=None, user="bob", only=frozenset({user})) for user in users])
        (before,) = (await engine.head()).offsets
        late = replace(message("m1"), payload=b'"%b"' % (b"x" * size))
        assert await for_each_script(redis, engine.publish([late])) < COMMANDS
        assert int(redis.cli("MEMORY", "USAGE", f"{PREFIX}cr:a", "SAMPLES", "0")) < READ_BYTES
        kept = [entry.event for entry in (await engine.replay("u0", {"a": before}, 1000)).entries]
        assert len(kept) == forms
        assert [event.exclude for event in kept if event.only is None] == [frozenset(users)]

    with_one_shard(life, lease_s=PATIENCE_S)


def test_logs_that_follow_one_another_are_read_in_few_steps(redis: RedisServer, with_one_shard: Any) -> None:
    """More is read of the log that is behind, and expired entries are skipped in one step."""

    async def life(nodes: Nodes) -> None:
        engine, _ = await nodes.node()
        names = [f"c{number}" for number in range(CHUNK)]
        await engine.configure({name: {} for name in names})
        for name in names:
            await engine.publish([message(f"{name}-{number}", channel=name) for number in range(20)])
        at, found, calls = 0, [], 0
        while at < 20 * CHUNK:
            replay = await engine.replay("ann", dict.fromkeys(names, at), 256)
            found += [entry.event.uuid for entry in replay.entries]
            (at,) = replay.read_to
            calls += 1
        assert found == [f"{name}-{number}" for name in names for number in range(20)]
        assert calls <= 20 * CHUNK // 50
        for name in names:
            redis.cli("HSET", f"{PREFIX}c:{name}", "age", "-1")
        commands_each = await for_each_script(redis, engine.replay("ann", dict.fromkeys(names, 0), 256))
        assert commands_each < 3 * CHUNK
        assert (await engine.replay("ann", dict.fromkeys(names, 0), 256)).lost == set(names)

    with_one_shard(life, lease_s=PATIENCE_S)


def test_a_join_costs_the_same_in_a_full_channel(redis: RedisServer, with_one_shard: Any) -> None:
    """Redis runs the same number of commands, none of which grows with the members."""

    def commands() -> dict[str, int]:
        lines = redis.cli("INFO", "commandstats").splitlines()
        stats = (line.removeprefix("cmdstat_").partition(":calls=") for line in lines if "calls=" in line)
        return {name: int(rest.partition(",")[0]) for name, _, rest in stats}

    async def life(nodes: Nodes) -> None:
        engine, recorder = await nodes.member("first", "a", notify_presence=True)

        async def connected(name: str) -> Member:
            member = Member(name, name, V07)
            recorder.members[name] = (member, {"a"})
            await engine.connect(member, EMPTY)
            return member

        async def join_once(name: str) -> dict[str, int]:
            member = await connected(name)
            before = commands()
            await engine.join(member, {"a": {}})
            after = commands()
            counted = ("hincrby", "hset", "hmget", "xadd", "publish", "hkeys", "hgetall")
            return {name: after.get(name, 0) - before.get(name, 0) for name in counted}

        async def join(name: str) -> dict[str, int]:
            """The least of several: work of the lease manager may fall into one of them."""
            joins = [await join_once(f"{name}-{number}") for number in range(5)]
            return {name: min(each[name] for each in joins) for name in joins[0]}

        early = await join("early")
        for number in range(300):
            await engine.join(await connected(f"m{number}"), {"a": {}})
        assert await join("late") == early
        assert early["hkeys"] == early["hgetall"] == 0

    with_one_shard(life)


def test_many_logs_are_read_by_several_calls(with_one_shard: Any) -> None:
    """Together they are one replay: each entry once, in order, up to one common offset."""

    async def life(nodes: Nodes) -> None:
        engine, _ = await nodes.node()
        names = [f"c{number}" for number in range(2 * CHUNK + 1)]
        await engine.configure({name: {} for name in names})
        await engine.publish([message(f"m{number}", channel=names[number]) for number in range(len(names))])
        starts = dict.fromkeys([*names, "unknown"], 0)
        at, found = 0, []
        while at < (await engine.head()).offsets[0]:
            replay = await engine.replay("ann", {name: max(at, 0) for name in starts}, 300)
            assert replay.lost == {"unknown"}
            found += [entry.event.uuid for entry in replay.entries]
            (at,) = replay.read_to
        assert found == [f"m{number}" for number in range(len(names))]

    with_one_shard(life)
