"""What happens to a stream while its engine takes its time to answer: others publish, join, leave and take over."""

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from channelstream.config import Settings
from channelstream.core.events import Dialect, Message
from channelstream.engines.base import UserUpdate
from channelstream.node import Node
from channelstream.server import build
from channelstream.transports.longpoll import PollStream
from channelstream.transports.streams import Streams

Meanwhile = Callable[[], Awaitable[Any]]


class SlowEngine:
    """An engine before whose answers something else happens, once each, in order."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.before: dict[str, deque[Meanwhile]] = {"head": deque(), "replay": deque()}

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._engine, name)
        return self._slow(method, self.before[name]) if name in self.before else method

    def _slow(self, method: Callable[..., Any], before: deque[Meanwhile]) -> Callable[..., Any]:
        async def call(*args: Any, **more: Any) -> Any:
            if before:
                await before.popleft()()
            return await method(*args, **more)

        return call


class Scene:
    """A node with one connection, `c1`, in the channel `a`."""

    node: Node
    streams: Streams
    engine: SlowEngine

    async def begin(self) -> None:
        server = build(Settings(secret="x", admin_secret="y"))
        self.node, self.streams = server.node, server.streams
        await self.node.start()
        self.engine = SlowEngine(self.node.engine)
        self.node.engine = self.engine  # type: ignore[assignment]
        await self.node.connect("c1", "u", Dialect.V07, {"a": {}}, UserUpdate(values={}, fresh={}))

    async def publish(self, channel: str, *uuids: str) -> None:
        events = [
            Message(uuid=each, channel=channel, user="x", payload=b"1", timestamp="t") for each in uuids
        ]
        await self.node.publish(events)

    def open(self, since: str | None) -> PollStream:
        poll = PollStream(self.streams, self.node.hub.connections["c1"])
        poll.open(since)
        return poll

    async def answer(self, poll: PollStream) -> list[Any]:
        """Return what a client that stays hears."""
        items = json.loads(await poll.wait(_nothing) or b"null")
        assert isinstance(items, list)
        return items

    async def uuids(self, poll: PollStream) -> list[str]:
        return [item["uuid"] for item in await self.answer(poll) if item["type"] == "message"]


async def _nothing() -> dict[str, str]:
    return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]


async def _gone() -> dict[str, str]:
    return {"type": "http.disconnect"}


def play(scenario: Callable[[Scene], Awaitable[Any]]) -> Any:
    """Return what a scenario tells."""

    async def whole() -> Any:
        scene = Scene()
        await scene.begin()
        return await scenario(scene)

    return asyncio.run(whole())


def test_joining_while_the_log_is_read() -> None:
    """What a channel joined meanwhile has brought is part of what the client catches up with, in order."""

    async def scenario(scene: Scene) -> list[str]:
        async def meanwhile() -> None:
            await scene.node.subscribe("c1", {"late": {}})
            await scene.publish("late", "in late")
            await scene.publish("a", "in a")

        scene.engine.before["replay"].append(meanwhile)
        return await scene.uuids(scene.open(None))

    assert play(scenario) == ["in late", "in a"]


def test_leaving_while_the_log_is_read() -> None:
    """A client that leaves a channel hears nothing that is published there afterwards."""

    async def scenario(scene: Scene) -> list[str]:
        await scene.node.subscribe("c1", {"left": {}})

        async def meanwhile() -> None:
            await scene.node.unsubscribe("c1", ["left"])
            await scene.publish("left", "in left")
            await scene.publish("a", "in a")

        scene.engine.before["replay"].append(meanwhile)
        return await scene.uuids(scene.open(None))

    assert play(scenario) == ["in a"]


def test_leaving_and_joining_again_while_the_log_is_read() -> None:
    """What was said between the two is not the client's, though its stream began before."""

    async def scenario(scene: Scene) -> list[str]:
        position = str(await scene.node.engine.head())
        await scene.node.subscribe("c1", {"again": {}})

        async def meanwhile() -> None:
            await scene.node.unsubscribe("c1", ["again"])
            await scene.publish("again", "between")
            await scene.node.subscribe("c1", {"again": {}})
            await scene.publish("again", "in again")
            await scene.publish("a", "in a")

        # The first answer says what is lost, so that the second finds where each channel begins for this stream.
        scene.engine.before["replay"].extend([lambda: asyncio.sleep(0), meanwhile])
        return await scene.uuids(scene.open(position))

    assert play(scenario) == ["in again", "in a"]


def test_a_stream_replaced_before_it_knows_where_to_begin() -> None:
    """It does not change where the stream that took over begins."""

    async def scenario(scene: Scene) -> list[str]:
        old = str(await scene.node.engine.head())
        await scene.publish("a", "heard")
        assert await scene.uuids(scene.open(None)) == ["heard"]
        newer: list[PollStream] = []

        async def meanwhile() -> None:
            newer.append(scene.open(None))

        scene.engine.before["head"].append(meanwhile)
        older = scene.open(old)
        await older.answered.wait()
        await asyncio.sleep(0)
        await scene.publish("a", "new")
        return await scene.uuids(newer[0])

    assert play(scenario) == ["new"]


def test_a_lost_answer_that_is_noticed_after_the_next_one() -> None:
    """What the next poll has been sent does not come again."""

    async def scenario(scene: Scene) -> list[str]:
        async def answered(uuid: str) -> PollStream:
            poll = scene.open(None)
            await asyncio.sleep(0)
            await scene.publish("a", uuid)
            await poll.answered.wait()
            return poll

        lost = await answered("one")
        await answered("two")
        assert await lost.wait(_gone) is None
        await scene.publish("a", "three")
        return await scene.uuids(scene.open(None))

    assert play(scenario) == ["three"]


def test_lost_and_recovered_in_one_answer() -> None:
    """A poll that is told of a loss brings what is recovered along, however long the engine takes."""

    async def scenario(scene: Scene) -> list[str]:
        position = str(await scene.node.engine.head())
        await scene.node.subscribe("c1", {"short": {"log_events": 1}})
        await scene.publish("short", "trimmed", "not replayed")
        await scene.publish("a", "recovered")
        scene.engine.before["replay"].extend([lambda: asyncio.sleep(0)] * 9)
        resumed, *items = await scene.answer(scene.open(position))
        assert (resumed["recovered"], resumed["lost"]) == (["", "a"], ["short"])
        return [item["uuid"] for item in items]

    assert play(scenario) == ["recovered"]
