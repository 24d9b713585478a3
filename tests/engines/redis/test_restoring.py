"""Registrations in several shards: which shards are asked, and what is left of a lost call."""

import asyncio
from typing import Any

import pytest
from tests.engines.conformance import EMPTY, Recorder
from tests.engines.conformance.nodes import at_once
from tests.engines.redis.nodes import Nodes, hold_back, names_in, take_out_of_reach
from tests.redis_server import RedisServer
from tests.waiting import PATIENCE_S, soon

from channelstream.engines.members import Member
from channelstream.engines.redis.address import prefixes
from channelstream.engines.redis.engine import RedisEngine
from channelstream.errors import Unavailable
from channelstream.wire.channelstream import V07


def test_unsubscribe_during_restore_is_not_undone(with_three_shards: Any) -> None:
    """A connection is registered in the channels it has when the shard is asked, not in those it had before."""

    async def life(nodes: Nodes) -> None:
        left, kept = names_in(1, "c")[:2]
        engine, recorder = await nodes.node()
        member = Member(names_in(0, "k")[0], names_in(0, "u")[0], V07)
        recorder.members[member.conn_id] = (member, {left, kept})
        await engine.connect(member, EMPTY)
        await engine.join(member, {left: {}, kept: {}})
        state_for = engine._shards.state_for

        async def slow(*about: Any) -> bytes:
            recorder.members[member.conn_id] = (member, {kept})
            await engine.leave(member, [left])
            return await state_for(*about)

        engine._shards.state_for = slow  # type: ignore[method-assign]
        await engine.cluster._restoring.restore(member.conn_id, engine._shards.at(left))
        users = {channel.name: channel.users for channel in await engine.channels([left, kept])}
        assert users == {left: {}, kept: {member.user: 1}}

    with_three_shards(life)


async def away(nodes: Nodes) -> tuple[RedisEngine, Recorder, Member, str]:
    """Start a node with a connection in one channel, which lies in another shard than its id and its user."""
    engine, recorder = await nodes.node()
    member, channel = Member(names_in(0, "k")[0], names_in(0, "u")[0], V07), names_in(1, "c")[0]
    recorder.members[member.conn_id] = (member, {channel})
    await engine.connect(member, EMPTY)
    await engine.join(member, {channel: {}})
    return engine, recorder, member, channel


def named(redis: RedisServer, member: Member) -> str:
    """Return which other shards count a connection as that of its id has it."""
    return redis.cli("HGET", f"{prefixes(3)[0]}k:{member.conn_id}", "shards")


def test_a_connection_that_left_a_shard_is_complete_for_the_next_node(
    redis: RedisServer, with_three_shards: Any
) -> None:
    """Though the shard of its id could not be reached, and its node has died since."""

    async def life(nodes: Nodes) -> None:
        engine, recorder, member, channel = await away(nodes)
        other, _ = await nodes.node()
        take_out_of_reach(engine._shards.at(member.conn_id))
        recorder.members[member.conn_id] = (member, set())
        await engine.leave(member, [channel])
        await engine.close()
        assert named(redis, member) == "1"
        claim = await other.cluster.claim(member.conn_id, orphan=False, request_release=at_once)
        assert claim is not None
        assert (claim.is_whole, claim.channels) == (True, {})

    with_three_shards(life, lease_s=PATIENCE_S)


def test_a_shard_that_was_left_is_not_asked_when_the_shard_of_the_id_returns(
    redis: RedisServer, with_three_shards: Any
) -> None:
    async def life(nodes: Nodes) -> None:
        engine, recorder, member, channel = await away(nodes)
        mend = take_out_of_reach(engine._shards.at(member.conn_id))
        recorder.members[member.conn_id] = (member, set())
        await engine.leave(member, [channel])
        mend()
        key = f"{prefixes(3)[1]}k:{member.conn_id}"
        await soon(lambda: named(redis, member) == "" and redis.cli("EXISTS", key) == "0")
        registrations = engine.cluster._registrar.ownership.registrations
        assert not registrations.has(member.conn_id, engine._shards.at(channel).index)

    with_three_shards(life)


def test_a_shard_joined_after_a_lost_answer_is_named(redis: RedisServer, with_three_shards: Any) -> None:
    """It is unknown whether the shard of the id removed the name when the last channel was left."""

    async def life(nodes: Nodes) -> None:
        engine, recorder, member, channel = await away(nodes)
        directory = engine._shards.at(member.conn_id)
        call = directory.client.call

        async def lost(operation: str, **arguments: Any) -> Any:
            await call(operation, **arguments)
            raise Unavailable("The answer is lost.")

        directory.client.call = lost  # type: ignore[method-assign]
        recorder.members[member.conn_id] = (member, set())
        await engine.leave(member, [channel])
        assert named(redis, member) == ""
        directory.client.call = call  # type: ignore[method-assign]
        recorder.members[member.conn_id] = (member, {channel})
        await engine.join(member, {channel: {}})
        assert named(redis, member) == "1"

    with_three_shards(life, lease_s=PATIENCE_S)


def test_a_shard_named_for_a_failed_join_is_not_asked(redis: RedisServer, with_three_shards: Any) -> None:
    """The shard of the id had named it, but the answer was lost, so that it was not joined."""

    async def life(nodes: Nodes) -> None:
        engine, recorder, member, channel = await away(nodes)
        recorder.members[member.conn_id] = (member, set())
        await engine.leave(member, [channel])
        directory = engine._shards.at(member.conn_id)
        call = directory.client.call

        async def lost(operation: str, **arguments: Any) -> Any:
            answer = await call(operation, **arguments)
            if operation == "copy":
                assert named(redis, member).strip() == "1"
                raise Unavailable("The answer is lost.")
            return answer

        directory.client.call = lost  # type: ignore[method-assign]
        with pytest.raises(Unavailable, match="lost"):
            await engine.join(member, {channel: {}})
        await soon(lambda: named(redis, member) == "")

    with_three_shards(life)


def test_a_shard_that_was_never_joined_is_not_asked(redis: RedisServer, with_three_shards: Any) -> None:
    """It became unreachable right after the shard of the id had named it, and stays unreachable."""

    async def life(nodes: Nodes) -> None:
        engine, recorder, member, channel = await away(nodes)
        recorder.members[member.conn_id] = (member, set())
        await engine.leave(member, [channel])
        shard = engine._shards.at(channel)
        call = shard.client.call

        async def broken(operation: str, **arguments: Any) -> Any:
            if operation == "join":
                take_out_of_reach(shard)
            return await call(operation, **arguments)

        shard.client.call = broken  # type: ignore[method-assign]
        with pytest.raises(Unavailable):
            await engine.join(member, {channel: {}})
        await soon(lambda: named(redis, member) == "")

    with_three_shards(life)


def test_a_shard_is_named_until_its_last_channel_is_left(redis: RedisServer, with_three_shards: Any) -> None:
    """Also by a restore during the leave: a node that takes it over needs that shard."""

    async def life(nodes: Nodes) -> None:
        engine, recorder, member, channel = await away(nodes)
        # As a node says it from when the leaving begins.
        recorder.members[member.conn_id] = (member, set())
        directory = engine._shards.at(member.conn_id)
        await engine.cluster._restoring.restore(member.conn_id, directory)
        assert named(redis, member) == "1"
        other, _ = await nodes.node()
        claim = await other.cluster.claim(member.conn_id, orphan=False, request_release=at_once)
        assert claim is not None
        assert list(claim.channels) == [channel]

    with_three_shards(life, lease_s=PATIENCE_S)


def test_a_shard_left_during_a_handover_no_longer_counts_the_connection(with_three_shards: Any) -> None:
    """The shard of its id does not name it: the next node that took the connection over would not ask it."""

    async def life(nodes: Nodes) -> None:
        engine, _, member, channel = await away(nodes)
        other, _ = await nodes.node()

        async def leave() -> None:
            await engine.leave(member, [channel])

        claim = await other.cluster.claim(member.conn_id, orphan=False, request_release=leave)
        assert claim is not None
        assert (list(claim.channels), claim.is_whole) == ([], True)
        shard = other._shards.at(channel)
        assert not other.cluster._registrar.ownership.registrations.has(member.conn_id, shard.index)
        assert await shard.scans.unregistered([member.conn_id]) == [member.conn_id]

    with_three_shards(life, lease_s=PATIENCE_S)


@pytest.mark.parametrize("slow", ["spread", "disconnect"])
def test_a_channel_joined_while_its_shard_is_left_counts(with_three_shards: Any, slow: str) -> None:
    """The reconciler finds no channel of a connection in a shard, and the connection joins one there before the removal.

    Args:
        slow: which of the calls is answered after it has joined.
    """

    async def life(nodes: Nodes) -> None:
        engine, recorder, member, channel = await away(nodes)
        other, _ = await nodes.node()
        shard = engine._shards.at(channel)
        answered, let_go = asyncio.Event(), asyncio.Event()
        for each in (shard, engine._shards.at(member.conn_id)):
            hold_back(each, slow, answered, let_go)
        recorder.members[member.conn_id] = (member, set())
        restoring = asyncio.ensure_future(engine.cluster._restoring.restore(member.conn_id, shard))
        await answered.wait()
        recorder.members[member.conn_id] = (member, {channel})
        await engine.join(member, {channel: {}})
        let_go.set()
        await restoring
        [found] = await other.channels([channel])
        assert found.users == {member.user: 1}
        claim = await other.cluster.claim(member.conn_id, orphan=False, request_release=at_once)
        assert claim is not None
        assert (claim.is_whole, list(claim.channels)) == (True, [channel])

    with_three_shards(life, lease_s=PATIENCE_S)
