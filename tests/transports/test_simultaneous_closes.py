"""Very many WebSockets that their clients close in one turn of the loop."""

import asyncio
from itertools import pairwise

import pytest
from tests.simulation.line import Line

from channelstream.apps.app import App, Apps
from channelstream.config import Settings
from channelstream.core.batch import DISCARD
from channelstream.core.connection import ConnectionState
from channelstream.core.events import Message
from channelstream.core.policy import Policy
from channelstream.core.user import UserUpdate
from channelstream.http import closing
from channelstream.server import build
from channelstream.service import Node, Services
from channelstream.transports import streams, websocket
from channelstream.transports.settings import StreamSettings
from channelstream.transports.streams import Streams
from channelstream.transports.websocket import WebSocketStream
from channelstream.wire.channelstream import V07

GOOD_BYE = b"\x88\x82\0\0\0\0\x03\xe8"
PINGS = b"\x89\x83\0\0\0\0one", b"\x89\x83\0\0\0\0two"
MANY = 11


class Socket(Line):
    """A line whose reading the server may pause."""

    pauses = 0
    is_paused = False

    def pause_reading(self) -> None:
        self.pauses += 1
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False


@pytest.fixture(autouse=True)
def _long_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine, the bytes of one client are read in one turn."""
    monkeypatch.setattr(websocket, "TURN_S", 3600.0)


async def crowd(is_live: bool = True) -> tuple[Node, list[Socket]]:
    """A node with so many connections, each with an open socket that has caught up, or is catching up."""
    node = build(Settings(secret="x", admin_secret="y", unattached_timeout_s=3600)).node
    await node.start()
    shared = Streams(Services(Apps(App()), node), StreamSettings(), Policy())
    lines = []
    for number in range(MANY):
        await node.connect(f"c{number}", f"u{number}", V07, {"a": {}}, UserUpdate({}, {}))
        connection = node.connection(f"c{number}")
        assert connection is not None
        line = Socket(65_536, pauses_late=False)
        line.protocol = stream = WebSocketStream(shared, line, connection, deflate=False)
        if not is_live:  # Without a message that it has missed, it would be live at once.
            await node.publish(
                [Message(uuid=f"m{number}", channel="a", user="x", payload=b"1", timestamp="t")]
            )
        stream.open("" if is_live else None)
        lines.append(line)
    while is_live and any(each.state is not ConnectionState.LIVE for each in node.hub.connections.values()):
        await asyncio.sleep(0)
    return node, lines


def test_many_disconnects_are_handled_in_short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first ones at once, the others in later turns; each is answered with a close frame."""
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


def test_a_close_frame_counts_though_the_socket_is_lost_before_its_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The connection ends; it is not waited for."""
    monkeypatch.setattr(closing, "AT_ONCE", 1)

    async def life() -> None:
        node, lines = await crowd()
        for line in lines:
            line.protocol.data_received(GOOD_BYE)
        for line in lines:
            line.protocol.connection_lost(None)
        for _ in range(3 * MANY):
            await asyncio.sleep(0)
        assert node.hub.connections == {}
        (channel,) = await node.directory.channels(["a"])
        assert channel.connections == 0

    asyncio.run(life())


def test_frames_of_many_clients_are_read_in_short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of arrival, and those of each client in order, though it sends more before its turn."""
    monkeypatch.setattr(streams, "READS_AT_ONCE", 4)

    async def life() -> None:
        _, lines = await crowd()
        for line in lines:
            line.protocol.data_received(PINGS[0])
        lines[-1].protocol.data_received(PINGS[1])
        counts = []
        for _ in range(4):
            counts.append(sum(b"\x8a\x03one" in line.unread for line in lines))
            await asyncio.sleep(0)
        assert counts == [4, 8, 11, 11]
        assert bytes(lines[-1].unread).endswith(b"\x8a\x03one\x8a\x03two")
        assert [(line.pauses, line.is_paused) for line in lines[-2:]] == [(0, False), (1, False)]

    asyncio.run(life())


@pytest.mark.parametrize("end", ["eof", "lost"])
def test_a_close_frame_counts_though_the_socket_ends_before_it_is_read(
    monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """The connection ends and is not waited for; a client that still reads gets its answer."""
    monkeypatch.setattr(streams, "READS_AT_ONCE", 1)

    async def life() -> None:
        node, lines = await crowd()
        for line in lines:
            line.protocol.data_received(GOOD_BYE)
        for line in lines:
            if end == "eof":
                assert line.protocol.eof_received()
            else:
                line.abort()
        for _ in range(4 * MANY):
            await asyncio.sleep(0)
        assert node.hub.connections == {}
        assert all(line.is_closing() for line in lines)
        assert end == "lost" or all(line.unread.endswith(b"\x88\x02\x03\xe8") for line in lines)

    asyncio.run(life())


def test_nothing_is_written_to_clients_that_wait_for_their_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """They no longer read: the first bytes would reset their sockets."""
    monkeypatch.setattr(closing, "AT_ONCE", 1)

    async def life() -> None:
        node, lines = await crowd()
        for line in lines[1:]:
            line.unread.clear()
            line.protocol.data_received(GOOD_BYE)
        event = Message(uuid="m", channel="a", user="app", payload=b"1", timestamp="t")
        await node.publish([event])
        for _ in range(3):
            await asyncio.sleep(0)
        assert b'"uuid":"m"' in lines[0].unread
        for _ in range(2 * MANY):
            await asyncio.sleep(0)
        assert {bytes(line.unread) for line in lines[1:]} == {b"\x88\x02\x03\xe8"}

    asyncio.run(life())


def test_sockets_lost_with_unread_pings_are_detached_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A write to a lost socket raises: none is made, and each connection waits for its next stream."""
    monkeypatch.setattr(streams, "READS_AT_ONCE", 1)

    async def life() -> None:
        node, lines = await crowd()
        failures: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
        for line in lines:
            line.protocol.data_received(PINGS[0])
        for line in lines:
            line.close()
            line.unread.clear()
            line._lose()
        assert {each.state for each in node.hub.connections.values()} == {ConnectionState.DETACHED}
        for _ in range(2 * MANY):
            await asyncio.sleep(0)
        assert failures == []

    asyncio.run(life())


@pytest.mark.parametrize("end", ["close", "loss"])
def test_a_stream_that_ends_while_it_catches_up_ends_at_once(
    monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """However many others end in this turn: its catch-up would continue to write."""
    monkeypatch.setattr(closing, "AT_ONCE", 0)

    async def life() -> None:
        node, lines = await crowd(is_live=False)
        assert {each.state for each in node.hub.connections.values()} == {ConnectionState.CATCHING_UP}
        for line in lines:
            if end == "close":
                line.protocol.data_received(GOOD_BYE)
            else:
                line.close()
                line._lose()
        states = {each.state for each in node.hub.connections.values()}
        assert states == (set() if end == "close" else {ConnectionState.DETACHED})

    asyncio.run(life())


def test_a_transport_that_fills_up_after_the_close_frame_is_not_caught_up_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing more is written, and the connection keeps the position of what was."""
    monkeypatch.setattr(closing, "AT_ONCE", 0)

    async def life() -> None:
        node, [line, *_] = await crowd()
        connection = node.connection("c0")
        assert connection is not None
        await node.publish([Message(uuid="m", channel="a", user="app", payload=b"1", timestamp="t")])
        line.protocol.data_received(GOOD_BYE)
        delivered = connection.delivered
        line.protocol.pause_writing()
        assert (connection.state, connection.batch) == (ConnectionState.LIVE, DISCARD)
        assert delivered == connection.delivered < node.hub.offsets

    asyncio.run(life())
