"""A stream whose client misses nothing is live in the loop turn that opens it; any other one catches up."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from tests.simulation.line import FrameParser, Line
from tests.simulation.loop import turns

from channelstream.config import Settings
from channelstream.core.connection import Connection, ConnectionState
from channelstream.core.events import Message
from channelstream.core.user import UserUpdate
from channelstream.server import build
from channelstream.service import Node
from channelstream.slices import MANY
from channelstream.transports.streams import Streams
from channelstream.transports.websocket import WebSocketStream
from channelstream.wire.channelstream import V07

LIVE, CATCHING_UP = ConnectionState.LIVE, ConnectionState.CATCHING_UP
HEAD = b"head\r\n\r\n"
EITHER = pytest.mark.parametrize("since", [None, ""])


class Counted(Line):
    """A line that counts writes."""

    writes = 0

    def write(self, data: bytes) -> None:
        self.writes += 1
        super().write(data)


class Scene:
    """A node with the connection `c1` in the channel `a`."""

    node: Node
    streams: Streams

    async def begin(self) -> None:
        server = build(Settings(secret="x", admin_secret="y"))
        self.node, self.streams = server.node, server.streams
        await self.node.start()
        await self.node.connect("c1", "u", V07, {"a": {}}, UserUpdate(values={}, fresh={}))

    @property
    def connection(self) -> Connection:
        return self.node.hub.connections["c1"]

    async def publish(self, channel: str, uuid: str) -> None:
        message = Message(uuid=uuid, channel=channel, user="x", payload=b"1", timestamp="t")
        await self.node.publish([message])

    def open(self, since: str | None) -> Counted:
        line = Counted(65_536, pauses_late=False)
        line.protocol = WebSocketStream(self.streams, line, self.connection, deflate=False)
        line.protocol.open(since, HEAD)
        return line


def play(scenario: Callable[[Scene], Awaitable[None]]) -> None:
    async def whole() -> None:
        scene = Scene()
        await scene.begin()
        await scenario(scene)

    asyncio.run(whole())


def items(line: Counted) -> list[list[object]]:
    """Return uuid, or recovered and lost channels, of each item that the client was sent."""
    sent = bytes(line.unread)
    assert sent.startswith(HEAD)
    lists = FrameParser().feed(sent[len(HEAD) :])
    return [
        [item["uuid"]] if item["type"] == "message" else [item["recovered"], item["lost"]]
        for each in lists
        for item in each
    ]


@EITHER
def test_a_client_that_misses_nothing_is_live_at_once(since: str | None) -> None:
    """All that it is sent first is one write; then events come as they are accepted."""

    async def scenario(scene: Scene) -> None:
        line = scene.open(since)
        assert (scene.connection.state, line.writes) == (LIVE, 1)
        await scene.publish("a", "m")
        await turns(9)
        resumed = [] if since is None else [[["", "a"], []]]
        assert items(line) == [*resumed, ["m"]]

    play(scenario)


@EITHER
def test_events_of_other_channels_delay_no_stream(since: str | None) -> None:
    """The log is read, and has nothing for this connection."""

    async def scenario(scene: Scene) -> None:
        await scene.publish("other", "m")
        scene.open(since)
        assert scene.connection.state is LIVE
        assert scene.connection.delivered == scene.node.hub.offsets == (1,)

    play(scenario)


def test_a_missed_event_is_caught_up() -> None:
    """It is sent before the first live one."""

    async def scenario(scene: Scene) -> None:
        await scene.publish("a", "missed")
        line = scene.open(None)
        assert scene.connection.state is CATCHING_UP
        await turns(9)
        await scene.publish("a", "live")
        await turns(9)
        assert items(line) == [["missed"], ["live"]]

    play(scenario)


def test_a_client_that_has_lost_events_is_sent_which() -> None:
    """A position of another log proves nothing."""

    async def scenario(scene: Scene) -> None:
        line = scene.open("another-7")
        assert scene.connection.state is CATCHING_UP
        await turns(9)
        assert items(line) == [[[], ["", "a"]]]

    play(scenario)


def test_a_client_with_very_many_channels_waits_for_its_turn() -> None:
    """To read their logs takes a turn of its own."""

    async def scenario(scene: Scene) -> None:
        await scene.node.subscribe("c1", {f"c{number}": {} for number in range(MANY)})
        scene.open("")
        assert scene.connection.state is CATCHING_UP
        await turns(9)
        assert scene.connection.state is LIVE

    play(scenario)
