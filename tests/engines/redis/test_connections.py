"""Connections that end, change and come back: their owner and their registrations."""

import asyncio
from typing import Any

import pytest
from tests.engines.conformance import EMPTY
from tests.engines.conformance.nodes import at_once
from tests.engines.redis.nodes import (
    MANY,
    Nodes,
    begin_to_end,
    channel_in,
    counted,
    cut,
    in_many,
    names_in,
    take_out_of_reach,
)
from tests.redis_server import RedisServer
from tests.waiting import soon

from channelstream.engines.members import Leaving, Member
from channelstream.engines.redis import engine as engine_module
from channelstream.engines.redis.engine import RedisEngine
from channelstream.engines.redis.ownership import Owner
from channelstream.errors import Unavailable
from channelstream.wire.channelstream import SEED, V07


async def users_of(engine: RedisEngine, names: list[str]) -> dict[str, int]:
    """Return how many connections each user has in channels, together."""
    counts: dict[str, int] = {}
    for channel in await engine.channels(names):
        for user, count in channel.users.items():
            counts[user] = counts.get(user, 0) + count
    return counts


def test_an_ending_connection_has_no_owner(with_one_shard: Any) -> None:
    """No node can claim or command it; a new use of its id ends it first, and gets none of its channels."""

    async def life(nodes: Nodes) -> None:
        engine, recorder = await nodes.node()
        other, others = await nodes.node()
        await in_many(engine, recorder, "ann")
        await begin_to_end(engine, "many")
        del recorder.members["many"]
        assert await other.cluster.ask("many", b"stop") is None
        again = Member("many", "ann", V07)
        others.members["many"] = (again, {"new"})
        assert await other.connect(again, EMPTY) is not None
        await other.join(again, {"new": {}})
        assert await users_of(other, [*MANY, "new"]) == {"ann": 1}

    with_one_shard(life)


def test_an_end_begun_by_one_node_is_completed_by_another(with_one_shard: Any) -> None:
    """Though that node makes no more calls: heartbeats continue it."""

    async def life(nodes: Nodes) -> None:
        engine, recorder = await nodes.node()
        other, _ = await nodes.node()
        await in_many(engine, recorder, "ann")
        await begin_to_end(engine, "many")
        del recorder.members["many"]
        await engine.close()

        async def is_ended() -> bool:
            return not await users_of(other, MANY)

        await soon(is_ended)

    with_one_shard(life)


def test_a_connection_in_many_channels_is_counted_again_exactly(
    redis: RedisServer, with_one_shard: Any
) -> None:
    """Registrations that Redis has lost are restored, and stale ones are removed."""

    async def life(nodes: Nodes) -> None:
        engine, recorder = await nodes.node()
        member = await in_many(engine, recorder, "ann")
        await engine.leave(member, MANY[:120])
        await engine.join(member, {f"extra-{number}": {} for number in range(120)})
        await engine.cluster.confirm_ownership("many")
        counted = {channel.name for channel in await engine.channels(None) if channel.users}
        assert counted == set(MANY)

    with_one_shard(life)


def test_an_id_that_is_used_again_with_another_protocol_replaces_the_former_one(with_one_shard: Any) -> None:
    """A shard that has missed the end of the former connection no longer counts its audience."""

    async def life(nodes: Nodes) -> None:
        engine, recorder = await nodes.member("old", "a", protocol=SEED)
        again = Member("old", "old", V07)
        recorder.members["old"] = (again, {"b"})
        await engine._shards.at("b").client.call(
            "join",
            **engine.cluster._registrar.identity(again),
            known=False,
            channels=[("b", {})],
            since=False,
            bounds=engine._bounds,
            blob=await engine._shards.state_for("old", []),
        )
        channels = {each.name: each for each in await engine.channels(["a", "b"])}
        assert [each.always_connections for each in channels.values()] == [0, 0]
        assert [list(channels[name].users) for name in ("a", "b")] == [[], ["old"]]

    with_one_shard(life)


def test_a_bug_about_one_connection_does_not_stop_the_others(
    with_one_shard: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is logged, and the groups behind it are unregistered."""

    async def life(nodes: Nodes) -> None:
        engine, recorder = await nodes.node()
        members = [Member(f"k{number}", "ann", V07) for number in range(3)]
        for member in members:
            recorder.members[member.conn_id] = (member, {"a"})
            await engine.connect(member, EMPTY)
            await engine.join(member, {"a": {}})
        disconnect = engine._connections.disconnect

        async def failing(member: Member, channels: Any) -> None:
            if member.conn_id == "k0":
                raise KeyError("a bug")
            await disconnect(member, channels)

        monkeypatch.setattr(engine._connections, "disconnect", failing)
        monkeypatch.setattr(engine_module, "LEAVING_AT_ONCE", 1)
        await engine.disconnect_all([Leaving(member, ["a"]) for member in members])
        assert await users_of(engine, ["a"]) == {"ann": 1}

    with_one_shard(life, lease_s=600.0)
    assert "a connection could not be unregistered" in caplog.text


def test_a_node_that_was_cut_off_leaves_connections_of_a_new_owner_alone(with_three_shards: Any) -> None:
    """Of a connection whose own shard is still out of reach, no other shard is informed."""

    async def life(nodes: Nodes) -> None:
        left, joined = names_in(1, "c")[:2]
        cut_off, recorder = await nodes.node()
        other, other_recorder = await nodes.node()
        member = Member(names_in(0, "k")[0], names_in(1, "u")[0], V07)
        recorder.members[member.conn_id] = (member, {left})
        await cut_off.connect(member, EMPTY)
        await cut_off.join(member, {left: {}})
        establish = [shard.establish for shard in cut_off._shards]

        async def unreachable() -> None:
            raise Unavailable("It is out of reach.")

        for shard in cut_off._shards:
            shard.establish = unreachable  # type: ignore[method-assign]
        cut(cut_off)
        claim = await other.cluster.claim(member.conn_id, orphan=False, request_release=at_once)
        assert claim is not None
        other_recorder.members[member.conn_id] = (member, {joined})
        await other.join(member, {joined: {}})
        await other.leave(member, [left])
        shards = list(cut_off._shards)
        for index in (1, 0, 2):
            shards[index].establish = establish[index]  # type: ignore[method-assign]
            await soon(lambda index=index: shards[index].is_linked)  # type: ignore[misc]
            await asyncio.sleep(0.1)  # real time: a wrong restore is sent within it.
        await soon(lambda: not recorder.members)
        users = {channel.name: channel.users for channel in await other.channels([left, joined])}
        assert users == {left: {}, joined: {member.user: 1}}

    with_three_shards(life)


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_a_connection_that_failed_to_connect_is_removed_at_once(
    redis: RedisServer, with_nodes: Any, is_cancelled: bool
) -> None:
    """Though one shard registered all of it before the answer was lost, or the caller left."""

    async def life(nodes: Nodes) -> None:
        engine, _ = await nodes.node()
        for lease_manager in engine._links.lease_managers:
            await lease_manager.stop()  # Which would find it, too.
        shard = engine._shards.at("ann")
        call = shard.client.call

        async def lost(operation: str, **arguments: Any) -> Any:
            answer = await call(operation, **arguments)
            if operation == "connect":
                assert redis.cli("KEYS", "*k:ann")
                if not is_cancelled:
                    raise Unavailable("The answer is lost.")
                connecting.cancel()
                await asyncio.sleep(0)
            return answer

        shard.client.call = lost  # type: ignore[method-assign]
        connecting = asyncio.ensure_future(engine.connect(Member("ann", "ann", V07), EMPTY))
        with pytest.raises(asyncio.CancelledError if is_cancelled else Unavailable):
            await connecting
        assert redis.cli("KEYS", "*k:ann") == ""
        assert not engine.cluster._registrar.ownership.registrations.has("ann", shard.index)

    with_nodes(life)


def test_one_call_registers_a_connection_in_its_channels(with_one_shard: Any) -> None:
    """Each further one would be a round trip more for every client that comes."""

    async def life(nodes: Nodes) -> None:
        engine, recorder = await nodes.node()
        client, called = engine._shards.at("a").client, list[str]()
        call = client.call

        async def counted(operation: str, **arguments: Any) -> Any:
            called.append(operation)
            return await call(operation, **arguments)

        client.call = counted  # type: ignore[method-assign]
        member = Member("ann", "ann", V07)
        recorder.members["ann"] = (member, {"a", "b"})
        registered = await engine.connect(member, EMPTY, {"a": {}, "b": {"notify_presence": True}})
        assert registered is not None
        assert (registered.joined.keys(), called) == ({"a", "b"}, ["connect"])
        channels, _ = await engine.channels_at(["a", "b"], with_users=False)
        assert (len(channels), called) == (2, ["connect", "channels"])

    with_one_shard(life)


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_a_connection_that_failed_to_join_is_removed_from_all_shards(
    redis: RedisServer, with_three_shards: Any, is_cancelled: bool
) -> None:
    """It is not registered without its channels: a client that asks again would find its id taken."""

    async def life(nodes: Nodes) -> None:
        engine, _ = await nodes.node()
        for lease_manager in engine._links.lease_managers:
            await lease_manager.stop()  # Which would find it, too.
        home = engine._shards.at("ann")
        other = next(shard for shard in engine._shards if shard is not home)
        channels = [channel_in(shard.index, len(engine._shards)) for shard in (home, other)]
        call = other.client.call

        async def lost(operation: str, **arguments: Any) -> Any:
            answer = await call(operation, **arguments)
            if operation == "join":
                assert redis.cli("KEYS", "*kc:ann").count("kc:ann") == 2
                if not is_cancelled:
                    raise Unavailable("The answer is lost.")
                connecting.cancel()
                await asyncio.sleep(0)
            return answer

        other.client.call = lost  # type: ignore[method-assign]
        connecting = asyncio.ensure_future(
            engine.connect(Member("ann", "ann", V07), EMPTY, {name: {} for name in channels})
        )
        with pytest.raises(asyncio.CancelledError if is_cancelled else Unavailable):
            await connecting
        assert redis.cli("KEYS", "*k:ann") == redis.cli("KEYS", "*kc:ann") == ""
        assert not engine.cluster._registrar.ownership.registrations.shards("ann")

    with_three_shards(life)


def test_nothing_is_kept_of_a_connection_that_ended_in_an_outage(with_nodes: Any) -> None:
    """Neither its unconfirmed owner, nor its unconfirmed channels."""

    async def life(nodes: Nodes) -> None:
        engine, recorder = await nodes.member("ann", "a")
        member, _ = recorder.members["ann"]
        ownership = engine.cluster._registrar.ownership
        for shard in engine._shards:
            take_out_of_reach(shard)
        await soon(lambda: ownership.owner("ann") is Owner.SUSPECTED)
        with pytest.raises(Unavailable):
            await engine.leave(member, ["a"])
        assert any(ownership.registrations.unconfirmed)
        del recorder.members["ann"]
        with pytest.raises(Unavailable):
            await engine.disconnect(member, ["a"])
        assert not ownership._stored
        assert not any(ownership.registrations.unconfirmed)

    with_nodes(life)


@pytest.mark.parametrize("has_another", [True, False])
def test_a_cancelled_join_leaves_no_stale_registration(with_three_shards: Any, has_another: bool) -> None:
    """Its shard may have registered it nevertheless; a heartbeat corrects that."""

    async def life(nodes: Nodes) -> None:
        joined, other = names_in(1, "c")[:2]
        engine, recorder = await nodes.node()
        member = Member(names_in(0, "k")[0], names_in(0, "u")[0], V07)
        recorder.members[member.conn_id] = (member, {other} if has_another else set())
        await engine.connect(member, EMPTY)
        await engine.join(member, {other: {}} if has_another else {})
        shard = engine._shards.at(joined)
        call = shard.client.call

        async def gone(operation: str, **arguments: Any) -> Any:
            if operation == "join":
                asyncio.get_running_loop().call_soon(joining.cancel)
            return await call(operation, **arguments)

        shard.client.call = gone  # type: ignore[method-assign]
        joining = asyncio.ensure_future(engine.join(member, {joined: {}}))
        with pytest.raises(asyncio.CancelledError):
            await joining
        await counted(engine, {joined: {}})

    with_three_shards(life)


def test_a_reused_conn_id_leaves_no_stale_registration_of_the_first_user(with_three_shards: Any) -> None:
    """Though a shard was unreachable when the connection of the first user ended."""

    async def life(nodes: Nodes) -> None:
        engine, recorder = await nodes.node()
        [conn_id, *_], users, (left, joined, *_) = names_in(0, "k"), names_in(0, "u"), names_in(1, "c")
        first, second = (Member(conn_id, user, V07) for user in users[:2])
        recorder.members[conn_id] = (first, {left})
        await engine.connect(first, EMPTY)
        await engine.join(first, {left: {}})
        await engine._shards.at(conn_id).client.call(
            "disconnect", conn_id=conn_id, node=engine.cluster._registrar.node
        )
        recorder.members[conn_id] = (second, {joined})
        assert await engine.connect(second, EMPTY) is not None
        await engine.join(second, {joined: {}})
        users_of = {channel.name: channel.users for channel in await engine.channels([left, joined])}
        assert users_of == {left: {}, joined: {second.user: 1}}

    with_three_shards(life)
