"""How the state of a user is announced in channels of many shards."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.engines.conformance import EMPTY, Recorder
from tests.engines.redis.nodes import MANY, PREFIX, Nodes, channel_in, event_of, link_of, names_in
from tests.redis_server import RedisServer
from tests.stoppable_line import StoppableLine
from tests.waiting import PATIENCE_S, soon

from channelstream.core.events import Presence, UserStateChanged
from channelstream.core.registry_limits import RegistryLimits
from channelstream.core.user import UserUpdate
from channelstream.engines.members import Member
from channelstream.engines.redis import codec
from channelstream.engines.redis.address import prefixes
from channelstream.engines.redis.engine import RedisEngine
from channelstream.engines.redis.shard_client import AGAIN
from channelstream.engines.redis.shard_state import RedisSettings
from channelstream.errors import Unavailable
from channelstream.wire.channelstream import V07


def test_members_that_are_read_in_several_steps_are_those_of_one_offset(
    with_nodes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although some come and leave between the steps: a reader that begins at that offset is sent each later event once."""
    monkeypatch.setattr("channelstream.engines.redis.sharded_reads.EVENTS_AT_ONCE", 2)

    async def life(nodes: Nodes) -> None:
        engine, recorder = await nodes.member("stays", "a", notify_presence=True)

        async def come(name: str, **state: str) -> None:
            member = Member(name, name, V07)
            recorder.members[name] = (member, {"a"})
            await engine.connect(member, UserUpdate(dict(state), {}, list(state)))
            await engine.join(member, {"a": {}})

        async def leave(name: str) -> None:
            await engine.disconnect(recorder.members.pop(name)[0], ["a"])

        for name in ("leaves first", "leaves last", "comes back"):
            await come(name)
        client, reads = engine._shards.at("a").client, engine._reads
        channels, states = reads.channels, reads.states

        async def call(operation: str, **arguments: Any) -> Any:
            answer = await type(client).call(client, operation, **arguments)
            return [answer[0], False] if operation == "members_at" else answer

        async def channels_after_some(*arguments: Any) -> Any:
            await come("comes first", mood="fine")
            await leave("leaves first")
            await leave("comes back")
            return await channels(*arguments)

        async def states_after_some(*arguments: Any) -> Any:
            found = await states(*arguments)
            await come("comes last", mood="glad")
            await leave("leaves last")
            await come("comes back")
            return found

        monkeypatch.setattr(client, "call", call)
        monkeypatch.setattr(reads, "channels", channels_after_some)
        monkeypatch.setattr(reads, "states", states_after_some)
        found = await engine.members_at("a")
        assert dict(found.members) == {
            "stays": {}, "comes first": {"mood": "fine"}, "comes last": {"mood": "glad"}, "comes back": {},
        }  # fmt: skip
        assert len(found.members) == 4
        assert (await engine.replay("nobody", {"a": found.offset}, 100)).entries == []

    with_nodes(life)


def test_the_state_of_a_forgotten_user_is_no_longer_announced(
    redis: RedisServer, with_one_shard: Any
) -> None:
    """The state of a user who is forgotten is not announced in the remaining channels."""

    async def life(nodes: Nodes) -> None:
        engine, recorder = await nodes.member("ann", *MANY, notify_state=True)
        member, _ = recorder.members.pop("ann")
        [shard] = engine._shards
        update = codec.write_update(UserUpdate({"text": "x" * 30_000}, {}, ["text"]))
        await shard.client.step(
            "update_user", user="ann", update=update, bounds=codec.write_bounds(RegistryLimits())
        )
        await engine.disconnect(member, MANY)
        assert redis.cli("SMEMBERS", f"{PREFIX}telling") == "ann"

        async def is_forgotten() -> bool:
            return bool(await shard.client.step("collect", rules=[("u", 0)], count=100))

        await soon(is_forgotten)
        assert redis.cli("SMEMBERS", f"{PREFIX}telling") == ""

    with_one_shard(life, lease_s=PATIENCE_S)


def test_a_user_without_pending_state_is_dropped_by_a_heartbeat(
    redis: RedisServer, with_one_shard: Any
) -> None:
    async def life(nodes: Nodes) -> None:
        engine, _ = await nodes.node()
        redis.cli("SADD", f"{PREFIX}telling", "nobody")
        await engine._shards.at("").client.heartbeat(lease_ms=1000, label="", connections=0)
        assert redis.cli("SMEMBERS", f"{PREFIX}telling") == ""

    with_one_shard(life)


async def change_that_is_large(
    near: Nodes, others: Nodes, monkeypatch: pytest.MonkeyPatch
) -> tuple[RedisEngine, Recorder, Callable[[], Awaitable[object]], list[str]]:
    """Return a node with very many channels of a user, a change of its state, and the calls that this makes."""
    near.settings = RedisSettings(PATIENCE_S, PATIENCE_S)
    listener, recorder = await near.member("bob", *MANY, notify_state=True)
    engine, _ = await others.member("ann", *MANY)
    client, calls = engine._shards.at("ann").client, list[str]()

    async def call(operation: str, **arguments: Any) -> Any:
        calls.append(operation)
        return await type(client).call(client, operation, **arguments)

    monkeypatch.setattr(client, "call", call)
    update = UserUpdate({"text": "x" * 60_000}, {}, ["text"])
    return listener, recorder, lambda: engine.update_user("ann", update), calls


def changes(recorder: Recorder) -> int:
    return sum(isinstance(event_of(entry), UserStateChanged) for entry in recorder.entries)


def test_a_large_announcement_waits_for_other_nodes(
    with_a_line: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So it does not overflow the subscription of one that receives more slowly."""
    monkeypatch.setattr("channelstream.engines.redis.shard_client.ASK_TIMEOUT_S", PATIENCE_S)

    async def life(line: StoppableLine, near: Nodes, others: Nodes) -> None:
        listener, recorder, change, calls = await change_that_is_large(near, others, monkeypatch)
        link = link_of(listener)
        line.cut()
        changing = asyncio.ensure_future(change())
        await soon(lambda: changing.done() or "echo" in calls)
        assert not changing.done()
        line.mend()
        await changing
        await soon(lambda: changes(recorder) == len(MANY))
        assert link_of(listener) is link

    with_a_line(life)


def test_a_node_that_does_not_answer_is_waited_for_once(
    with_a_line: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("channelstream.engines.redis.shard_client.ASK_TIMEOUT_S", 0.01)

    async def life(line: StoppableLine, near: Nodes, others: Nodes) -> None:
        _, recorder, change, calls = await change_that_is_large(near, others, monkeypatch)
        line.cut()
        await change()
        assert calls.count("nodes") > calls.count("echo") == 1
        line.mend()
        await soon(lambda: changes(recorder) == len(MANY))

    with_a_line(life)


def test_a_state_is_announced_in_channels_of_every_shard(with_three_shards: Any) -> None:
    """In the channels of the user, once for each change, with the public part; presence has it as well."""

    async def life(nodes: Nodes) -> None:
        channels = [channel_in(shard, 3) for shard in range(3)]
        engine, listener = await nodes.member("ann", *channels, notify_state=True, notify_presence=True)
        for mood in (1, 2):
            await engine.update_user("ann", UserUpdate({"mood": mood, "secret": mood}, {}, ["mood"]))
        await soon(lambda: len(state_events(listener)) == 6)
        assert sorted(state_events(listener)) == sorted((name, n) for name in channels for n in (1, 2))
        [user] = await engine.users(["ann"])
        assert (user.channels, user.state) == (set(channels), {"mood": 2, "secret": 2})
        await engine.update_user("ann", UserUpdate({"mood": None}, {}))
        await soon(lambda: sorted(state_events(listener)[6:]) == sorted((name, None) for name in channels))
        listener.entries.clear()
        other, _ = await nodes.member("ann2", channels[1])
        member = Member("again", "ann", V07)
        assert await other.connect(member, UserUpdate({"mood": 3}, {})) is not None
        await soon(lambda: len(state_events(listener)) == 3)
        for name in channels:
            await engine.leave(Member("ann", "ann", V07), [name])
        await other.join(member, {channels[2]: {}})
        joined = [each for each in map(event_of, listener.entries) if isinstance(each, Presence)]
        await soon(lambda: last_joined(listener, channels[2]) == {"mood": 3})
        assert joined

    with_three_shards(life)


def test_a_node_keeps_up_with_the_state_it_announces(redis: RedisServer, with_one_shard: Any) -> None:
    """However many megabytes a state is in all channels together: Redis does not drop the subscription."""

    async def life(nodes: Nodes) -> None:
        names = [f"c{number}" for number in range(200)]
        engine, recorder = await nodes.member("ann", *names, notify_state=True)
        [shard] = engine._shards
        link = shard.link.present
        redis.cli("CONFIG", "SET", "client-output-buffer-limit", "pubsub 4mb 0 0")
        try:
            keys = [f"key-{number}" for number in range(60)]
            await engine.update_user("ann", UserUpdate(dict.fromkeys(keys, "y" * 1000), {}, keys))
        finally:
            redis.cli("CONFIG", "SET", "client-output-buffer-limit", "pubsub 32mb 8mb 60")
        await soon(
            lambda: sum(isinstance(entry.event, UserStateChanged) for entry in recorder.entries) == 200
        )
        assert shard.link.present is link

    with_one_shard(life)


@pytest.mark.parametrize("way", ["call", "restore", "follow"])
def test_a_state_is_announced_no_faster_than_its_node_receives(with_one_shard: Any, way: str) -> None:
    """A caller that finds a state half announced continues with it step by step, each when the last was received."""

    async def life(nodes: Nodes) -> None:
        names = [f"c{number}" for number in range(200)]
        engine, _ = await nodes.member("ann", *names, notify_state=True)
        [shard] = engine._shards
        keys = [f"key-{number}" for number in range(60)]
        update = UserUpdate(dict.fromkeys(keys, "y" * 1000), {}, keys)
        shard.client.send_paced = unfinished  # type: ignore[method-assign]
        await engine.update_user("ann", update)
        del shard.client.send_paced  # type: ignore[attr-defined]
        order = answers_and_marks(shard)
        if way == "call":
            await engine.update_user("ann", UserUpdate({"mood": 1}, {}))
        elif way == "restore":
            await engine.cluster._restoring.restore("ann", shard)
        else:
            shard.pending_state.add("ann")
            await engine.cluster._restoring.send_states(shard)
            assert not shard.pending_state
        steps = "".join(order)
        assert steps.count("again") >= 2
        assert steps.count("again") == steps.count("again-received ")

    with_one_shard(life, lease_s=600.0)


async def unfinished(operation: str, **arguments: Any) -> None:
    """The caller that had to announce a state has gone before it did."""


def answers_and_marks(shard: Any) -> list[str]:
    """Record from now on that a step has more to do, and that events before a mark were received."""
    order: list[str] = []
    call, marked = shard.client.call_on, shard.link.present.subscription.await_mark

    async def recorded(*about: Any, **arguments: Any) -> Any:
        answer = await call(*about, **arguments)
        if answer == AGAIN:
            order.append("again")
        return answer

    async def received(*about: Any) -> None:
        await marked(*about)
        order.append("-received ")

    shard.client.call_on, shard.link.present.subscription.await_mark = recorded, received
    return order


def state_events(recorder: Recorder) -> list[tuple[str, Any]]:
    events = [each for each in map(event_of, recorder.entries) if isinstance(each, UserStateChanged)]
    return [(str(each.channel), value) for each in events for _, value in each.changed]


def last_joined(recorder: Recorder, channel: str) -> Any:
    events = [each for each in map(event_of, recorder.entries) if isinstance(each, Presence)]
    return next((each.state for each in reversed(events) if each.joined and each.channel == channel), None)


def test_a_state_is_announced_without_a_copy_of_the_channels(redis: RedisServer, with_one_shard: Any) -> None:
    """A change is announced page by page; a channel that is joined or changed meanwhile gets it once."""

    async def life(nodes: Nodes) -> None:
        names = [f"c{number}" for number in range(1500)]
        engine, recorder = await nodes.member("ann", *names, notify_state=True)
        [shard] = engine._shards
        marked, copies = shard.client._await_published, []

        async def between(*about: Any) -> Any:
            keys = redis.cli("KEYS", f"{PREFIX}u?:ann").split()
            copies.append([key for key in keys if int(redis.cli("HLEN", key)) > 100])
            return await marked(*about)

        shard.client._await_published = between  # type: ignore[method-assign]
        keys = {f"key-{number}": "y" * 900 for number in range(5)}
        await engine.update_user("ann", UserUpdate(keys, {}, list(keys)))
        await soon(lambda: len(state_events(recorder)) >= 5 * 1500)
        assert Counter(state_events(recorder)) == Counter((name, "y" * 900) for name in names * 5)
        assert copies
        assert all(each == [f"{PREFIX}uc:ann"] for each in copies)
        recorder.members["ann"][1].add("late")
        await engine.join(Member("ann", "ann", V07), {"late": {"notify_state": True}})
        await engine.update_user("ann", UserUpdate({"key-0": "z"}, {}))
        await soon(lambda: len(state_events(recorder)) >= 5 * 1500 + 1501)
        assert Counter(state_events(recorder)[5 * 1500 :]) == Counter(
            (name, "z") for name in [*names, "late"]
        )

    with_one_shard(life)


def test_a_shard_that_was_unreachable_announces_a_state_later(with_three_shards: Any) -> None:
    """The change is accepted, since the user's own shard has it; the channels of the other get it late."""

    async def life(nodes: Nodes) -> None:
        user, [channel, *_] = names_in(0, "u")[0], names_in(1, "c")
        engine, recorder = await nodes.node()
        member = Member(names_in(0, "k")[0], user, V07)
        recorder.members[member.conn_id] = (member, {channel})
        await engine.connect(member, EMPTY)
        await engine.join(member, {channel: {"notify_state": True}})
        away = engine._shards.at(channel)
        establish = away.establish

        async def unreachable() -> None:
            raise Unavailable("It is out of reach.")

        away.establish = unreachable  # type: ignore[method-assign]
        assert away.link.present is not None
        away.link.present.abandon("the test cuts it")
        change = await engine.update_user(user, UserUpdate({"mood": 1}, {}, ["mood"]))
        assert change is not None
        assert (change.changed, state_events(recorder)) == ([("mood", 1)], [])
        away.establish = establish  # type: ignore[method-assign]
        await soon(lambda: state_events(recorder) == [(channel, 1)])

    with_three_shards(life)


def test_a_copy_of_a_state_that_no_channel_needs_expires(redis: RedisServer, with_three_shards: Any) -> None:
    """Also where the connection is restored in that shard because of its id."""

    async def life(nodes: Nodes) -> None:
        [channel, *_] = names_in(1, "c")
        engine, recorder = await nodes.node()
        member = Member(names_in(1, "k")[0], names_in(0, "u")[0], V07)
        recorder.members[member.conn_id] = (member, set())
        await engine.connect(member, UserUpdate({"mood": "fine"}, {}, ["mood"]))
        await engine.join(member, {channel: {}})
        await engine.leave(member, [channel])
        await engine.update_user(member.user, UserUpdate({"mood": "bored"}, {}))
        await engine.cluster._restoring.restore(member.conn_id, engine._shards.at(channel))
        copies = [f"{prefixes(3)[1]}{kind}:{member.user}" for kind in ("u", "us")]
        assert all(int(redis.cli("PTTL", copy)) > 0 for copy in copies)

    with_three_shards(life)
