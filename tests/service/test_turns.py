"""Few streams are opened and caught up at once, and calls of the API wait for none of them."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.redis_server import RedisServer, running_redis
from tests.transports.test_shards import name_in, node_of, shards_of
from tests.waiting import PATIENCE_S, soon

from channelstream.core.events import Message
from channelstream.core.log import PRIVATE
from channelstream.core.user import UserUpdate
from channelstream.errors import Unavailable
from channelstream.service import Node, turns
from channelstream.service.handover import CLAIMS_AT_ONCE
from channelstream.service.stream_reads import READS_AT_ONCE
from channelstream.service.turns import Turns
from channelstream.wire.channelstream import V07

EMPTY = UserUpdate({}, {})
Life = Callable[[Node, Node], Awaitable[None]]


class Held:
    """Calls that wait until they may go on.

    Attributes:
        begun: how many have come.
    """

    def __init__(self) -> None:
        self.begun = 0
        self.go_on = asyncio.Event()

    def before(self, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        """Return the call with a wait before it."""

        async def held(*args: Any, **more: Any) -> Any:
            self.begun += 1
            await self.go_on.wait()
            return await call(*args, **more)

        return held


@pytest.fixture(autouse=True)
def patient_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """No turn ends by its time within a test's steps, unless the test is about that."""
    monkeypatch.setattr(turns, "LONGEST_S", PATIENCE_S)


@pytest.fixture
def with_two_nodes(tmp_path: Path) -> Iterator[Callable[[Life], None]]:
    """Run a test with two nodes on one Redis."""

    async def life(test: Life, redis: RedisServer) -> None:
        nodes = [node_of(redis, 1) for _ in range(2)]
        try:
            for node in nodes:
                await node.start()
            await test(nodes[0], nodes[1])
        finally:
            for node in nodes:
                await node.close()

    with running_redis(tmp_path) as redis:
        yield lambda test: asyncio.run(life(test, redis))


async def registered(node: Node, count: int) -> list[str]:
    opened = [
        await node.connect(node.new_id(), f"user {number}", V07, {"a": {}}, EMPTY) for number in range(count)
    ]
    return [each.conn_id for each in opened]


async def publish(node: Node) -> None:
    await node.publish([Message(uuid="m", channel="a", user="app", payload=b"1", timestamp="t")])


async def turns_of_the_loop() -> None:
    """Let every task do what it can without waiting."""
    for _ in range(100):
        await asyncio.sleep(0)


def test_turns_are_taken_in_the_order_of_their_requests() -> None:
    """At most so many at once; one who gives up is passed over."""

    async def life() -> None:
        few, went, go_on = Turns(2), list[str](), asyncio.Event()

        async def take(name: str) -> None:
            async with few.turn():
                went.append(name)
                await go_on.wait()

        tasks = [asyncio.create_task(take(name)) for name in "abcde"]
        await turns_of_the_loop()
        assert went == ["a", "b"]
        tasks[2].cancel()
        go_on.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert went == ["a", "b", "d", "e"]

    asyncio.run(life())


def test_a_turn_that_ends_early_ends_once() -> None:
    """The next begins, and not two of them."""

    async def life() -> None:
        few, went = Turns(1), list[str]()

        async def take(name: str) -> None:
            async with few.turn():
                went.append(name)
                await asyncio.Event().wait()

        async with few.turn() as turn:
            tasks = [asyncio.create_task(take(name)) for name in "ab"]
            await turns_of_the_loop()
            assert went == []
            turn.end()
            await turns_of_the_loop()
        await turns_of_the_loop()
        assert went == ["a"]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(life())


def test_streams_do_not_wait_for_a_shard_whose_slot_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls of that shard wait for the end of the move; more streams than have a turn do, and another shard is read."""
    monkeypatch.setattr(turns, "LONGEST_S", 0.0)

    async def life(redis: RedisServer) -> None:
        node = node_of(redis, 3)
        await node.start()
        try:
            moving, resting = name_in(1, "u"), name_in(0, "u")
            move = shards_of(node)[1].link.move
            move.begin()
            waiting = [
                asyncio.create_task(node.reads.replay(moving, {PRIVATE: 0}, 1))
                for _ in range(2 * READS_AT_ONCE)
            ]
            await turns_of_the_loop()
            await node.reads.replay(resting, {PRIVATE: 0}, 1)
            assert not any(each.done() for each in waiting)
            move.end()
            assert len(await asyncio.gather(*waiting)) == 2 * READS_AT_ONCE
        finally:
            await node.close()

    with running_redis(tmp_path) as redis:
        asyncio.run(life(redis))


def test_few_connections_move_at_once_and_a_publish_passes_them(
    with_two_nodes: Callable[[Life], None],
) -> None:
    """All of them move in the end."""

    async def test(old: Node, new: Node) -> None:
        conn_ids = await registered(old, 3 * CLAIMS_AT_ONCE)
        held = Held()
        new._cluster.claim = held.before(new._cluster.claim)  # type: ignore[method-assign]
        moves = asyncio.gather(*map(new.take_over, conn_ids))
        await turns_of_the_loop()
        assert held.begun == CLAIMS_AT_ONCE
        await publish(new)
        held.go_on.set()
        assert [moved and moved.id for moved in await moves] == conn_ids

    with_two_nodes(test)


def test_few_streams_read_the_log_at_once_and_a_publish_passes_them(
    with_two_nodes: Callable[[Life], None],
) -> None:
    """All of them are answered in the end."""

    async def test(node: Node, _: Node) -> None:
        await registered(node, 1)
        held = Held()
        node._engine.replay = held.before(node._engine.replay)  # type: ignore[method-assign]
        node._engine.head = held.before(node._engine.head)  # type: ignore[method-assign]
        reads = [node.reads.replay("user 0", {PRIVATE: 0}, 1) for _ in range(2 * READS_AT_ONCE)]
        heads = [node.reads.head(["a"]) for _ in range(2 * READS_AT_ONCE)]
        answers = asyncio.gather(*reads, *heads)
        await turns_of_the_loop()
        assert held.begun == READS_AT_ONCE
        await publish(node)
        held.go_on.set()
        assert len(await answers) == 4 * READS_AT_ONCE

    with_two_nodes(test)


def test_a_silent_node_does_not_hold_up_its_clients(with_two_nodes: Callable[[Life], None]) -> None:
    """Once it has not answered, all of its other clients are asked for at once, until a node answers again."""

    async def test(old: Node, new: Node) -> None:
        conn_ids = await registered(old, 4 * CLAIMS_AT_ONCE)
        first, *others = conn_ids
        held, ask = Held(), new._cluster.ask

        async def silent(*_: Any) -> None:
            raise Unavailable("The node does not answer.")

        new._cluster.ask = silent  # type: ignore[method-assign]
        assert await new.take_over(first)
        new._cluster.ask = held.before(ask)  # type: ignore[method-assign]
        moves = asyncio.gather(*map(new.take_over, others[: 2 * CLAIMS_AT_ONCE]))
        await soon(lambda: held.begun == 2 * CLAIMS_AT_ONCE)
        held.go_on.set()
        assert all(await moves)

        held.go_on.clear()
        held.begun = 0
        moves = asyncio.gather(*map(new.take_over, others[2 * CLAIMS_AT_ONCE :]))
        await turns_of_the_loop()
        assert held.begun == CLAIMS_AT_ONCE
        held.go_on.set()
        assert all(await moves)

    with_two_nodes(test)
