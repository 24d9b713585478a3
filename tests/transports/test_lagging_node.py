"""Streams that go live at a node which has not received all of the log yet."""

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace

import pytest
from tests.simulation.loop import turns
from tests.transports.test_races import Scene, play, received

from channelstream.close_codes import CloseCode
from channelstream.core.entry import Entry
from channelstream.core.user import UserUpdate
from channelstream.errors import Unavailable
from channelstream.service import local
from channelstream.transports.reading import NO_CHANGE, Change
from channelstream.wire.channelstream import V07


class Link:
    """Holds what a node should receive from now on, as a slow link does."""

    def __init__(self, scene: Scene) -> None:
        self._node = scene.node
        self._late: list[Entry] = []
        self._deliver = self._node.deliver
        self._node.deliver = self._late.append

    async def receive(self) -> None:
        """Deliver it, and all else at once."""
        self._node.deliver = self._deliver
        while self._late:
            self._deliver(self._late.pop(0))


async def refused() -> None:
    raise Unavailable("Redis is out of reach; try again later.")


async def changed(scene: Scene, make: Callable[[], Awaitable[Change]]) -> list[str]:
    """Return the uuids and actions that a live stream is sent after a change of what it receives."""
    poll = scene.open(str(await scene.node.head()))
    await turns(9)
    link = Link(scene)
    scene.engine.before["catch_up"].append(link.receive)
    await poll.change(make)
    await turns(9)
    await link.receive()
    await scene.publish("other", "after")
    items = [item for item in await scene.answer(poll) if item["type"] in ("message", "presence")]
    return [item["uuid"] if item["type"] == "message" else item["message"]["action"] for item in items]


def test_an_event_before_a_join_that_arrives_after_it_is_not_sent() -> None:
    """The stream is live only when the node has received everything up to the join."""

    async def scenario(scene: Scene) -> list[str]:
        await scene.node.configure({"other": {}})

        async def join() -> Change:
            await scene.publish("other", "before")
            await scene.node.subscribe("c1", {"other": {}})
            return NO_CHANGE

        return await changed(scene, join)

    assert play(scenario) == ["after"]


@pytest.mark.parametrize("is_known", [True, False])
def test_a_member_that_the_answer_has_is_not_announced_when_its_event_arrives_late(is_known: bool) -> None:
    """The stream is live only when the node has received everything that the answer has."""

    async def scenario(scene: Scene) -> list[str]:
        settings = {"notify_presence": True}
        await scene.node.subscribe("c1", {"other": settings})

        async def join() -> Change:
            await scene.node.connect("c2", "joe", V07, {"other": settings}, UserUpdate({}, {}))
            head = await scene.node.head()
            return Change(b"", {}, {"other": head.offsets[0]} if is_known else {})

        return await changed(scene, join)

    assert play(scenario) == (["after"] if is_known else ["joined", "after"])


def test_a_node_that_cannot_catch_up_has_the_log_read() -> None:
    """A read of the log waits until the engine is there again."""

    async def scenario(scene: Scene) -> None:
        scene.engine.before["catch_up"].append(refused)
        link = Link(scene)
        await scene.publish("a", "one")
        poll = scene.open(str(await scene.node.head()))
        scene.engine.before["replay"].append(link.receive)
        await turns(9)
        assert scene.engine.calls["catch_up"] == 1
        await scene.publish("a", "two")
        assert await scene.uuids(poll) == ["two"]

    play(scenario)


async def around(scene: Scene, call: Callable[[], Awaitable[object]]) -> list[str]:
    """Return the uuids that a live stream is sent of messages before and after a call, of which the first arrives late."""
    scene.node.local._log = scene.engine  # type: ignore[assignment]
    line, stream = scene.socket()
    stream.open(str(await scene.node.head()))
    await turns(9)
    link = Link(scene)
    scene.engine.before["catch_up"].append(link.receive)
    await scene.publish("other", "before")
    await call()
    await link.receive()
    await scene.publish("other", "after")
    await turns(9)
    return [item["uuid"] for item in received(line) if item["type"] == "message"]


def test_a_message_before_a_subscription_by_the_application_is_not_sent_after_it() -> None:
    """The connection joins when the node has received everything that was accepted before the call."""

    async def scenario(scene: Scene) -> list[str]:
        await scene.node.configure({"other": {}})
        return await around(scene, lambda: scene.node.subscribe("c1", {"other": {}}))

    assert play(scenario) == ["after"]


def test_a_message_before_an_unsubscription_is_sent() -> None:
    """The connection leaves when the node has received everything that was accepted before the call."""

    async def scenario(scene: Scene) -> list[str]:
        await scene.node.subscribe("c1", {"other": {}})
        return await around(scene, lambda: scene.node.unsubscribe("c1", ["other"]))

    assert play(scenario) == ["before"]


def test_a_call_that_changes_nothing_waits_for_no_message() -> None:
    """Of a channel that the connection is in already, or is not in: its shard may be out of reach."""

    async def scenario(scene: Scene) -> list[str]:
        scene.node.local._log = scene.engine  # type: ignore[assignment]
        await scene.node.subscribe("c1", {"other": {}})
        _, stream = scene.socket()
        stream.open(str(await scene.node.head()))
        await turns(9)
        scene.engine.before["catch_up"].append(refused)
        joined = await scene.node.subscribe("c1", {"other": {}})
        left = await scene.node.unsubscribe("c1", ["unknown"])
        return [name for each in (joined, left) if each is not None for name in each.changed]

    assert play(scenario) == []


async def hang() -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize(("fails", "sent"), [(None, ["before"]), (refused, []), (hang, [])])
def test_a_message_before_the_end_of_its_connection_is_sent(
    fails: Callable[[], Awaitable[None]] | None, sent: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stream is closed when the node has received everything; at once if it cannot, soon if its engine hangs."""
    if fails is hang:
        monkeypatch.setattr(local, "LAST_MESSAGES_S", 0)

    async def scenario(scene: Scene) -> list[str]:
        await scene.node.subscribe("c1", {"other": {}})
        if fails:
            scene.engine.before["catch_up"].append(fails)
        return await around(scene, lambda: scene.node.end("c1", CloseCode.NORMAL, "disconnected"))

    assert play(scenario) == sent


@pytest.mark.replaces_compiled
def test_the_end_of_a_connection_waits_for_the_events_of_its_seats() -> None:
    """Where a client of Pusher's is a member, in channels of any shard."""

    async def scenario(scene: Scene) -> list[set[int]]:
        holder = scene.node.hub.connections["c1"]
        await scene.node.seats.take(holder, "presence", "member", UserUpdate({}, {}), {})
        _, stream = scene.socket()
        stream.open(str(await scene.node.head()))
        await turns(9)
        asked: list[set[int]] = []

        async def catch_up(shards: set[int]) -> None:
            asked.append(shards)

        local = scene.node.local
        local._log = SimpleNamespace(catch_up=catch_up)  # type: ignore[assignment]
        local._shard = ["u", "a", "presence"].index  # type: ignore[method-assign]
        await scene.node.end("c1", CloseCode.NORMAL, "disconnected")
        return asked

    assert play(scenario) == [{0, 1, 2}]
