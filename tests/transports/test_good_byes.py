"""Very many WebSockets that are closed by their clients in one turn of the loop."""

import asyncio
from itertools import pairwise

import pytest
from tests.simulation.line import Line

from channelstream.config import Settings
from channelstream.core.events import Dialect
from channelstream.core.policy import Policy
from channelstream.engines.base import UserUpdate
from channelstream.http import closing
from channelstream.node import Node
from channelstream.server import build
from channelstream.transports import websocket
from channelstream.transports.settings import StreamSettings
from channelstream.transports.streams import Streams
from channelstream.transports.websocket import WebSocketStream

GOOD_BYE = b"\x88\x82\0\0\0\0\x03\xe8"
MANY = 11


@pytest.fixture(autouse=True)
def _long_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine, what one client sends is read in one turn."""
    monkeypatch.setattr(websocket, "TURN_S", 3600.0)


async def crowd() -> tuple[Node, list[Line]]:
    """A node with so many connections, each with an open socket."""
    node = build(Settings(secret="x", admin_secret="y", unattached_timeout_s=3600)).node
    await node.start()
    streams = Streams(node, StreamSettings(), Policy())
    lines = []
    for number in range(MANY):
        await node.connect(f"c{number}", f"u{number}", Dialect.V07, {"a": {}}, UserUpdate({}, {}))
        connection = node.connection(f"c{number}")
        assert connection is not None
        line = Line(65_536, pauses_late=False)
        line.protocol = stream = WebSocketStream(streams, line, connection, deflate=False)
        stream.open("")
        lines.append(line)
    return node, lines


def test_many_disconnects_are_handled_in_short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first ones at once, the others in the turns after that; each is answered with a close frame."""
    monkeypatch.setattr(closing, "AT_ONCE", 4)

    async def life() -> None:
        node, lines = await crowd()
        here = [len(node.hub.connections)]
        for line in lines:
            line.protocol.data_received(GOOD_BYE)
        for _ in range(4):
            here.append(len(node.hub.connections))
            await asyncio.sleep(0)
        assert [before - after for before, after in pairwise(here)] == [4, 4, 3, 0]
        assert all(line.is_closing() and b"\x88\x02\x03\xe8" in line.unread for line in lines)

    asyncio.run(life())


def test_a_good_bye_counts_though_the_socket_is_lost_before_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection ends then; it is not waited for."""
    monkeypatch.setattr(closing, "AT_ONCE", 1)

    async def life() -> None:
        node, lines = await crowd()
        for line in lines:
            line.protocol.data_received(GOOD_BYE)
        for line in lines:
            line.protocol.connection_lost(None)
        assert node.hub.connections == {}
        for _ in range(MANY):
            await asyncio.sleep(0)
        (channel,) = await node.engine.channels(["a"])
        assert channel.connections == 0

    asyncio.run(life())
