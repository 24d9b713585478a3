"""A node moves to another process: it stays the same node, and nothing of it is lost, repeated or announced."""

import asyncio
from collections.abc import Callable

import pytest
from tests.engines.conformance import Recorder, at_once, message
from tests.engines.redis.nodes import Nodes, counted
from tests.redis_server import RedisServer
from tests.waiting import PATIENCE_S, soon

from channelstream.core.events import Presence
from channelstream.engines.cluster import OwnerSilent
from channelstream.engines.redis.address import prefixes
from channelstream.engines.redis.engine import RedisEngine
from channelstream.engines.redis.link import Link
from channelstream.engines.redis.shard_recovery import ShardRecovery
from channelstream.engines.redis.shard_state import RedisSettings
from channelstream.engines.redis.shard_subscriber import ShardSubscriber
from channelstream.errors import CannotHandOver, Unavailable

Node = tuple[RedisEngine, Recorder]
WithNodes = Callable[..., None]
CHANNELS = [f"c{number}" for number in range(6)]


async def state_of(engine: RedisEngine) -> list[bytes]:
    copied = [record async for record in engine.copy()]
    return copied + [record async for record in engine.hand_over()]


def take_over(engine: RedisEngine, state: list[bytes]) -> None:
    for record in state:
        engine.receive(record)
    engine.build((), ())
    engine.take_over()


async def next_process(nodes: Nodes, state: list[bytes], former: Recorder) -> Node:
    """Start an engine with the state of another one, and with its connections."""
    engine, recorder = nodes.make(), Recorder()
    recorder.members = former.members
    take_over(engine, state)
    engine.cluster.serve(recorder)
    nodes._engines.append(engine)
    await engine.start(recorder)
    engine.begin()
    return engine, recorder


def uuids(recorder: Recorder) -> list[str]:
    return [entry.event.uuid for entry in recorder.entries if not isinstance(entry.event, Presence)]


def test_what_is_published_meanwhile_is_delivered_there(with_nodes: WithNodes) -> None:
    """Once, in order within each shard, and what comes later as well; nothing is reported as lost."""

    async def test(nodes: Nodes) -> None:
        engine, recorder = await nodes.member("ann", *CHANNELS)
        other, _ = await nodes.node()
        await other.publish([message("before", channel) for channel in CHANNELS])
        await soon(lambda: len(uuids(recorder)) == len(CHANNELS))
        position, state = engine.position, await state_of(engine)
        await other.publish([message(f"meanwhile {channel}", channel) for channel in CHANNELS])
        after, received = await next_process(nodes, state, recorder)
        await other.publish([message(f"later {channel}", channel) for channel in CHANNELS])
        expected = {f"{when} {channel}" for when in ("meanwhile", "later") for channel in CHANNELS}
        await soon(lambda: len(uuids(received)) == len(expected))
        assert set(uuids(received)) == expected
        assert (after.position.epochs, received.gaps, received.renewals) == (position.epochs, [], 0)

    with_nodes(test)


def test_nobody_leaves(with_nodes: WithNodes) -> None:
    """The same node registers the same connections, also after its registrations were compared; one that ends leaves."""

    async def test(nodes: Nodes) -> None:
        engine, recorder = await nodes.member("ann", *CHANNELS, notify_presence=True)
        watcher, seen = await nodes.member("bob", *CHANNELS)
        state = await state_of(engine)
        before = {node.id for node in await watcher.cluster.nodes()}
        after, received = await next_process(nodes, state, recorder)
        await soon(lambda: after.cluster.owns("ann"))
        assert {node.id for node in await watcher.cluster.nodes()} == before
        await counted(watcher, {channel: {"ann": 1, "bob": 1} for channel in CHANNELS})
        member, _ = received.members.pop("ann")
        await after.disconnect(member, CHANNELS)
        await counted(watcher, {channel: {"bob": 1} for channel in CHANNELS})
        left = [
            event
            for entry in seen.entries
            if isinstance(event := entry.event, Presence) and event.user == "ann"
        ]
        assert [event.joined for event in left] == [False] * len(CHANNELS)

    with_nodes(test)


def test_a_command_that_is_executed_is_answered_before(with_nodes: WithNodes) -> None:
    """What it has changed here, the other node would not learn."""

    async def test(nodes: Nodes) -> None:
        engine, recorder = await nodes.member("ann", "a")
        other, _ = await nodes.node()
        begun, goes_on, execute = asyncio.Event(), asyncio.Event(), recorder.execute

        async def execute_slowly(command: bytes) -> bytes:
            begun.set()
            await goes_on.wait()
            return await execute(command)

        recorder.execute = execute_slowly  # type: ignore[method-assign]
        asked = asyncio.create_task(other.cluster.ask("ann", b"stop"))
        await begun.wait()
        moved = asyncio.create_task(state_of(engine))
        for _ in range(5):  # In these turns of the loop it would close its links.
            await asyncio.sleep(0)
        goes_on.set()
        assert await asked == b"executed stop"
        await moved

    with_nodes(test)


def test_a_move_that_is_given_up_early_leaves_a_node_that_answers(
    with_one_shard: WithNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It receives no commands any more, and has not closed its links yet."""

    async def test(nodes: Nodes) -> None:
        engine, _ = await nodes.member("ann", "a")
        other, _ = await nodes.node()
        looks = list[ShardSubscriber]()

        async def wait_at_last(subscriber: ShardSubscriber) -> None:
            looks.append(subscriber)
            if len(looks) == 2:
                await asyncio.Event().wait()

        with monkeypatch.context() as patch:
            patch.setattr(ShardSubscriber, "_answered", wait_at_last)
            moved = asyncio.create_task(state_of(engine))
            await soon(lambda: len(looks) == 2)
            moved.cancel()
            await asyncio.wait([moved])
        await engine.proceed()
        assert await other.cluster.ask("ann", b"stop") == b"executed stop"

    with_one_shard(test)


def test_a_command_that_arrives_early_is_answered_there(
    with_one_shard: WithNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new process has subscribed, and cannot make calls yet."""

    async def test(nodes: Nodes) -> None:
        engine, recorder = await nodes.member("ann", "a")
        other, _ = await nodes.node()
        hello, asked = ShardRecovery._hello, list[asyncio.Task[bytes | None]]()

        async def hello_late(recovery: ShardRecovery, link: Link) -> None:
            asked.append(asyncio.create_task(other.cluster.ask("ann", b"stop")))
            await soon(lambda: bool(link.subscription._buffered))
            await hello(recovery, link)

        state = await state_of(engine)
        monkeypatch.setattr(ShardRecovery, "_hello", hello_late)
        await next_process(nodes, state, recorder)
        assert await asked[0] == b"executed stop"

    with_one_shard(test)


def test_commands_of_other_nodes_are_executed_there(with_nodes: WithNodes) -> None:
    """Meanwhile they fail, as the owner receives nothing."""

    async def test(nodes: Nodes) -> None:
        nodes.settings = RedisSettings(PATIENCE_S, lease_s=PATIENCE_S)
        engine, recorder = await nodes.member("ann", "a")
        other, _ = await nodes.node()
        state = await state_of(engine)

        async def is_silent() -> bool:
            """Not while Redis has not noticed the end of its link yet: then no answer comes."""
            try:
                await other.cluster.ask("ann", b"stop")
            except Unavailable as error:
                return isinstance(error, OwnerSilent)
            return False

        await soon(is_silent)
        await next_process(nodes, state, recorder)
        assert await other.cluster.ask("ann", b"stop") == b"executed stop"
        claim = await other.cluster.claim("ann", False, at_once)
        assert claim is not None
        assert set(claim.channels) == {"a"}
        await soon(lambda: "ann" not in recorder.members)

    with_nodes(test)


def test_it_goes_on_when_nothing_came_of_the_move(with_nodes: WithNodes) -> None:
    async def test(nodes: Nodes) -> None:
        engine, recorder = await nodes.member("ann", *CHANNELS)
        other, _ = await nodes.node()
        await state_of(engine)
        await other.publish([message(f"meanwhile {channel}", channel) for channel in CHANNELS])
        await engine.proceed()
        await other.publish([message("later", CHANNELS[0])])
        await soon(lambda: len(uuids(recorder)) == len(CHANNELS) + 1)
        await soon(lambda: engine.cluster.owns("ann"))
        await engine.proceed()  # It has links: nothing happens.
        assert recorder.gaps == []

    with_nodes(test)


@pytest.mark.parametrize("state", [[], [b"x"], [b"\x81\xa6engine\xa5redis"]])
def test_the_state_of_another_engine_is_refused(with_one_shard: WithNodes, state: list[bytes]) -> None:
    async def test(nodes: Nodes) -> None:
        with pytest.raises(CannotHandOver, match="the engine has changed"):
            take_over(nodes.make(), state)

    with_one_shard(test)


def test_another_log_is_refused(with_nodes: WithNodes, redis: RedisServer) -> None:
    """Clients have positions in the former one: the other process, which knows it, can go on when it is there again."""

    async def test(nodes: Nodes) -> None:
        engine, recorder = await nodes.member("ann", *CHANNELS)
        state = await state_of(engine)
        redis.cli("HSET", f"{prefixes(nodes.shards)[-1]}log", "epoch", "another")
        with pytest.raises(CannotHandOver, match="another log"):
            await next_process(nodes, state, recorder)

    with_nodes(test)


def test_another_number_of_shards_is_refused(with_three_shards: WithNodes) -> None:
    async def test(nodes: Nodes) -> None:
        engine, _ = await nodes.node()
        state = await state_of(engine)
        nodes._places = nodes._places[:2]
        with pytest.raises(CannotHandOver, match="the engine has changed"):
            take_over(nodes.make(), state)

    with_three_shards(test)


def test_a_connection_on_its_way_to_another_node_is_kept(with_one_shard: WithNodes) -> None:
    """The node has let the other one have it, which has not claimed it yet when the new process compares."""

    async def test(nodes: Nodes) -> None:
        nodes.settings = RedisSettings(PATIENCE_S, lease_s=PATIENCE_S)
        engine, recorder = await nodes.member("ann", "a")
        other, _ = await nodes.node()
        del recorder.members["ann"]
        after, _ = await next_process(nodes, await state_of(engine), recorder)
        [lease_manager] = after._links.lease_managers
        await soon(lambda: not lease_manager._reconciler._compare_everything)
        claim = await other.cluster.claim("ann", False, at_once)
        assert claim is not None
        assert set(claim.channels) == {"a"}

    with_one_shard(test)
