"""Races with a slow engine: while it answers, others publish, join, leave and take over."""

import asyncio
import json
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.simulation.line import FrameParser, Line
from tests.simulation.loop import turns

from channelstream.close_codes import CloseCode
from channelstream.config import Settings
from channelstream.core.events import Message
from channelstream.core.user import UserUpdate
from channelstream.engines.memory import MemoryEngine
from channelstream.server import build
from channelstream.service import Node
from channelstream.transports.longpoll import PollStream
from channelstream.transports.reading import NO_CHANGE, Change
from channelstream.transports.streams import Streams
from channelstream.transports.websocket import WebSocketStream
from channelstream.wire.channelstream import V07

Meanwhile = Callable[[], Awaitable[Any]]


class SlowEngine:
    """An engine that runs a given action before and after each operation, once each, in order."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.before: dict[str, deque[Meanwhile]] = {name: deque() for name in ("head", "replay", "catch_up")}
        self.after: dict[str, deque[Meanwhile]] = {name: deque() for name in self.before}
        self.calls: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._engine, name)
        if name not in self.before:
            return method
        self.calls[name] += 1
        return self._slow(method, self.before[name], self.after[name])

    def _slow(
        self, method: Callable[..., Any], before: deque[Meanwhile], after: deque[Meanwhile]
    ) -> Callable[..., Any]:
        async def call(*args: Any, **more: Any) -> Any:
            if before:
                await before.popleft()()
            answer = await method(*args, **more)
            if after:
                await after.popleft()()
            return answer

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
        self.engine = SlowEngine(self.node._engine)
        self.node._engine = self.engine  # type: ignore[assignment]
        self.node.reads._log = self.engine  # type: ignore[assignment]
        await self.node.connect("c1", "u", V07, {"a": {}}, UserUpdate(values={}, fresh={}))

    async def publish(self, channel: str, *uuids: str) -> None:
        events = [
            Message(uuid=each, channel=channel, user="x", payload=b"1", timestamp="t") for each in uuids
        ]
        await self.node.publish(events)

    def open(self, since: str | None) -> PollStream:
        poll = PollStream(self.streams, self.node.hub.connections["c1"])
        poll.open(since)
        return poll

    def socket(self) -> tuple[Line, WebSocketStream]:
        """Return a stream that is not open, and its line."""
        line = Line(high=1 << 20, pauses_late=False)
        stream = WebSocketStream(self.streams, line, self.node.hub.connections["c1"], deflate=False)  # type: ignore[arg-type]
        line.protocol = stream
        return line, stream

    async def answer(self, poll: PollStream) -> list[Any]:
        """Return what a client that stays receives."""
        items = json.loads(await poll.wait(_nothing) or b"null")
        assert isinstance(items, list)
        return items

    async def uuids(self, poll: PollStream) -> list[str]:
        return [item["uuid"] for item in await self.answer(poll) if item["type"] == "message"]


def received(line: Line) -> list[Any]:
    """Return the items that a line has."""
    return [item for items in FrameParser().feed(line.take(len(line.unread))) for item in items]


async def finished(poll: PollStream) -> None:
    """Wait until the answer of a poll is ready."""
    while not poll.is_finished:
        await asyncio.sleep(0)


async def _nothing() -> dict[str, str]:
    return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]


async def _no_time() -> None:
    """Nothing happens meanwhile."""


async def _gone() -> dict[str, str]:
    return {"type": "http.disconnect"}


def play(scenario: Callable[[Scene], Awaitable[Any]]) -> Any:
    """Return the summary of a scenario."""

    async def whole() -> Any:
        scene = Scene()
        await scene.begin()
        return await scenario(scene)

    return asyncio.run(whole())


def test_a_channel_joined_during_catch_up_is_caught_up() -> None:
    """The client catches up with a channel joined meanwhile too, in order."""

    async def scenario(scene: Scene) -> list[str]:
        async def meanwhile() -> None:
            await scene.node.subscribe("c1", {"late": {}})
            await scene.publish("late", "in late")
            await scene.publish("a", "in a")

        scene.engine.before["replay"].append(meanwhile)
        return await scene.uuids(scene.open(None))

    assert play(scenario) == ["in late", "in a"]


def test_a_stream_opened_during_a_join_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for the engine and does not read the log repeatedly; then it is sent the messages of both channels."""
    answered, join = asyncio.Event(), MemoryEngine.join

    async def join_slowly(*args: Any) -> Any:
        joined = await join(*args)
        await answered.wait()
        return joined

    async def scenario(scene: Scene) -> list[str]:
        monkeypatch.setattr(MemoryEngine, "join", join_slowly)
        joining = asyncio.create_task(scene.node.subscribe("c1", {"late": {}}))
        await turns(5)
        await scene.publish("late", "in late")
        await scene.publish("a", "in a")
        poll = scene.open(None)
        await turns(100)
        assert scene.engine.calls["replay"] <= 3
        answered.set()
        await joining
        return await scene.uuids(poll)

    assert play(scenario) == ["in late", "in a"]


def test_a_channel_left_during_catch_up_is_not_delivered() -> None:
    """A client that leaves a channel receives nothing that is published there afterwards."""

    async def scenario(scene: Scene) -> list[str]:
        await scene.node.subscribe("c1", {"left": {}})

        async def meanwhile() -> None:
            await scene.node.unsubscribe("c1", ["left"])
            await scene.publish("left", "in left")
            await scene.publish("a", "in a")

        scene.engine.before["replay"].append(meanwhile)
        return await scene.uuids(scene.open(None))

    assert play(scenario) == ["in a"]


@pytest.mark.parametrize("misses_events", [True, False])
def test_messages_between_leave_and_join_during_catch_up_are_not_delivered(misses_events: bool) -> None:
    """Messages between the two are not delivered, though the stream began before."""

    async def scenario(scene: Scene) -> list[str]:
        position = str(await scene.node.head())
        await scene.node.subscribe("c1", {"again": {}})
        if misses_events:
            await scene.publish("elsewhere", "read on")

        async def meanwhile() -> None:
            await scene.publish("again", "before")
            await scene.node.unsubscribe("c1", ["again"])
            await scene.publish("again", "between")
            await scene.node.subscribe("c1", {"again": {}})
            await scene.publish("again", "in again")
            await scene.publish("a", "in a")

        # The first answer says what is lost, so that the second finds where each channel begins for this stream.
        scene.engine.before["replay"].extend([lambda: asyncio.sleep(0), meanwhile])
        scene.engine.after["head"].append(_no_time if misses_events else meanwhile)
        return await scene.uuids(scene.open(position))

    assert play(scenario) == ["in again", "in a"]


def test_a_loss_that_the_next_poll_would_be_sent_again_waits_for_an_event() -> None:
    """What was sent apart with the position of the client counts as lost until it has another position."""

    async def scenario(scene: Scene) -> list[list[str]]:
        await scene.publish("a", "old")
        position = str(await scene.node.head())
        scene.node.hub.connections["c1"].sent_apart = {"a": 1}
        poll = scene.open(position)
        await turns(50)
        assert not poll.is_finished
        await scene.publish("a", "new")
        scene.node.hub.flush()
        resumed, message = await scene.answer(poll)
        return [resumed["lost"], [message["uuid"]]]

    assert play(scenario) == [["a"], ["new"]]


def test_a_channel_left_and_joined_again_while_a_stream_opens_is_not_recovered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While it is joined again, what it has missed may be passed over: a private message is sent that came later."""
    answered, join = asyncio.Event(), MemoryEngine.join

    async def join_slowly(*args: Any) -> Any:
        joined = await join(*args)
        await answered.wait()
        return joined

    async def scenario(scene: Scene) -> tuple[list[str], list[str]]:
        await scene.node.subscribe("c1", {"again": {}})
        position = str(await scene.node.head())
        await scene.publish("again", "missed")
        private = Message(
            uuid="private", channel=None, only=frozenset({"u"}), user="x", payload=b"1", timestamp="t"
        )
        await scene.node.publish([private])
        monkeypatch.setattr(MemoryEngine, "join", join_slowly)
        joining = list[asyncio.Task[Any]]()

        async def meanwhile() -> None:
            await scene.node.unsubscribe("c1", ["again"])
            joining.append(asyncio.create_task(scene.node.subscribe("c1", {"again": {}}, position)))
            await turns(5)

        scene.engine.after["replay"].append(meanwhile)
        line, stream = scene.socket()
        stream.open(position)
        await turns(50)
        answered.set()
        await asyncio.gather(*joining)
        await turns(50)
        resumed, *items = received(line)
        return resumed["recovered"], [item["uuid"] for item in items]

    assert play(scenario) == (["", "a"], ["private"])


@pytest.mark.parametrize("already_lost", [False, True])
def test_what_is_lost_during_the_catch_up_of_a_poll_is_reported_to_the_next(already_lost: bool) -> None:
    """A channel without a log loses what is published while the log is read; the poll is answered as if that came later."""

    async def scenario(scene: Scene) -> None:
        await scene.node.subscribe("c1", {"no log": {"log_events": 0}})
        position = str(await scene.node.head())
        if already_lost:
            await scene.publish("no log", "1")
        await scene.publish("a", "missed")

        async def meanwhile() -> None:
            await scene.publish("no log", "2")
            await scene.publish("a", "in a")

        # Of what was read before, one answer says what is lost, and if something is, another one says where the rest begins.
        scene.engine.before["replay"].extend([*[lambda: asyncio.sleep(0)] * (1 + already_lost), meanwhile])
        poll = scene.open(position)
        (resumed,) = await scene.answer(poll)
        assert poll.end is None
        assert resumed["lost"] == (["no log"] if already_lost else [])
        again, *messages = await scene.answer(scene.open(resumed["position"]))
        assert again["lost"] == ["no log"]
        assert [message["uuid"] for message in messages] == ["missed", "in a"]

    play(scenario)


def test_a_stream_that_opens_needs_no_log_for_what_comes_meanwhile() -> None:
    """Also of a channel that keeps none: a busy one could not be listened to, as each read of its log comes too late."""

    async def scenario(scene: Scene) -> None:
        await scene.node.subscribe("c1", {"no log": {"log_events": 0}})
        scene.engine.after["head"].append(lambda: scene.publish("no log", "1"))
        scene.engine.before["replay"].extend([lambda: scene.publish("no log", "2")] * 2)
        line, stream = scene.socket()
        scene.engine.before["head"].append(lambda: scene.publish("a", "before"))
        stream._attachment.start("")
        await turns(20)
        resumed, message = received(line)
        assert (resumed["lost"], message["uuid"]) == ([], "1")
        assert not scene.engine.calls["replay"]

    play(scenario)


def test_a_change_of_a_live_stream_needs_no_log_for_what_comes_meanwhile() -> None:
    """A client that subscribes to another channel loses nothing of one that keeps no log, and stays."""

    async def scenario(scene: Scene) -> None:
        await scene.node.subscribe("c1", {"no log": {"log_events": 0}})
        poll = scene.open(str(await scene.node.head()))
        await turns(9)

        async def join() -> Change:
            await scene.publish("no log", "1")
            await scene.node.subscribe("c1", {"other": {"log_events": 0}})
            await scene.publish("other", "2")
            return NO_CHANGE

        await poll.change(join)
        assert await scene.uuids(poll) == ["1", "2"]
        assert poll.end is None

    play(scenario)


def test_a_channel_that_is_read_from_before_a_join_is_read_from_the_log() -> None:
    """The stream has buffered what came after the join only; what came before it is in the log."""

    async def scenario(scene: Scene) -> None:
        await scene.node.configure({"other": {}})
        position = str(await scene.node.head())
        poll = scene.open(position)
        await turns(9)

        async def join() -> Change:
            await scene.publish("other", "before")
            await scene.node.subscribe("c1", {"other": {}}, position)
            await scene.publish("other", "after")
            return Change(b"", {"other": scene.node.hub.connections["c1"].channels["other"].since})

        await poll.change(join)
        assert await scene.uuids(poll) == ["before", "after"]

    play(scenario)


def test_what_is_too_much_for_one_write_is_read_from_the_log() -> None:
    """Piece by piece, after it was buffered as a whole."""

    async def scenario(scene: Scene) -> None:
        (line, stream), uuids = scene.socket(), [f"m{number}" for number in range(200)]
        stream.open(str(await scene.node.head()))

        async def publish() -> Change:
            await scene.publish("a", *uuids)
            return NO_CHANGE

        await stream.change(publish)
        await turns(99)
        _, *messages = received(line)
        assert [item["uuid"] for item in messages] == uuids
        assert scene.engine.calls["replay"] == 1

    play(scenario)


def test_a_stream_opened_during_a_registration_waits_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It waits until the start of its private messages is known, which may be far back."""
    known, connect = asyncio.Event(), MemoryEngine.connect

    async def connect_late(*args: Any) -> Any:
        await known.wait()
        return await connect(*args)

    async def scenario(scene: Scene) -> None:
        before = str(scene.node.position)
        await scene.node.end("c1", CloseCode.NORMAL, "ended")
        private = Message(uuid="p", only=frozenset({"u"}), user="x", payload=b"1", timestamp="t")
        await scene.node.publish([private])
        monkeypatch.setattr(MemoryEngine, "connect", connect_late)
        update = UserUpdate(values={}, fresh={})
        again = asyncio.create_task(scene.node.connect("c1", "u", V07, {"a": {}}, update, before))
        await turns(1)
        poll = scene.open(before)
        await turns(5)
        known.set()
        resumed, message = await scene.answer(poll)
        assert (resumed["recovered"], resumed["lost"], message["uuid"]) == (["", "a"], [], "p")
        await again

    play(scenario)


def test_a_lost_answer_noticed_late_is_not_sent_again() -> None:
    """Events of the next poll are not sent again."""

    async def scenario(scene: Scene) -> list[str]:
        async def answered(uuid: str) -> PollStream:
            poll = scene.open(None)
            await asyncio.sleep(0)
            await scene.publish("a", uuid)
            await finished(poll)
            return poll

        lost = await answered("one")
        await answered("two")
        assert await lost.wait(_gone) is None
        await scene.publish("a", "three")
        return await scene.uuids(scene.open(None))

    assert play(scenario) == ["three"]


def test_one_answer_has_losses_and_recovered_events() -> None:
    """A poll that reports a loss brings the recovered events too, however long the engine takes."""

    async def scenario(scene: Scene) -> list[str]:
        position = str(await scene.node.head())
        await scene.node.subscribe("c1", {"short": {"log_events": 1}})
        await scene.publish("short", "trimmed", "not replayed")
        await scene.publish("a", "recovered")
        scene.engine.before["replay"].extend([lambda: asyncio.sleep(0)] * 9)
        resumed, *items = await scene.answer(scene.open(position))
        assert (resumed["recovered"], resumed["lost"]) == (["", "a"], ["short"])
        return [item["uuid"] for item in items]

    assert play(scenario) == ["recovered"]
