"""Publishers are answered later while streams cannot be written to as fast as they publish."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from inspect import isawaitable
from pathlib import Path
from typing import Any

import pytest
from tests.engines.conformance import Setup
from tests.engines.sqlite_runs import sqlite_engine
from tests.engines.test_memory import memory_engine
from tests.simulation.loop import turns
from tests.transports.test_seat_streams import ROOM, Tape
from tests.waiting import PATIENCE_S

from channelstream.api.call import Call, finished
from channelstream.api.connections import connect, disconnect, subscribe, unsubscribe
from channelstream.api.users import user_state
from channelstream.apps.app import App
from channelstream.clock import SystemClock
from channelstream.core.events import Message, MessageEdited
from channelstream.core.hub import Hub
from channelstream.core.rounds import MANY_EVENTS, SLICE
from channelstream.core.user import UserUpdate
from channelstream.service import Node, NodeLimits, Service
from channelstream.transports.attachment import Attachment
from channelstream.wire.channelstream import V07
from channelstream.wire.protocols import PROTOCOLS

NOTHING = UserUpdate({}, {})


def _message(text: str) -> Message:
    return Message(uuid=text, channel=ROOM, user="app", payload=json.dumps(text).encode(), timestamp="t")


class Server:
    """A node whose flush the test calls, with more streams in one channel than a part of the flush writes to."""

    def __init__(self, engine: Any) -> None:
        self.hub = Hub(PROTOCOLS.formats, lambda: None)
        self.node = Node(engine, self.hub, SystemClock(), iter(map(str, range(10**6))).__next__, NodeLimits())
        self.service = Service(App(), self.node)
        self.tapes = [Tape() for _ in range(SLICE + 1)]

    async def start(self) -> None:
        await self.node.start()
        for number, tape in enumerate(self.tapes):
            await self.node.connect(f"c{number}", "ann", V07, {ROOM: {}}, UserUpdate({}, {}))
            connection = self.node.connection(f"c{number}")
            assert connection is not None
            Attachment(self.node, connection, tape).open(None)
        self.flush_all()

    async def say(self, text: str) -> None:
        accepted = self.service.publish_one(_message(text))
        if isawaitable(accepted):
            await accepted

    def flush_all(self) -> None:
        while self.hub.flush():
            pass

    async def fall_behind(self) -> None:
        """Begin a flush, and publish all but one of the events that are too many for the next one; all are answered."""
        await self.say("first")
        assert self.hub.flush()
        for number in range(MANY_EVENTS - 1):
            await self.say(f"e{number}")


Life = Callable[[Server], Coroutine[Any, Any, None]]


@pytest.fixture(params=["memory", "sqlite"])
def play(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Life], None]:
    """Run a test with a server whose engine accepts a message at once, or later."""

    def run(life: Life) -> None:
        async def whole() -> None:
            path = tmp_path / "state.db"
            engine = memory_engine(Setup()) if request.param == "memory" else sqlite_engine(path, Setup())
            server = Server(engine)
            await server.start()
            async with asyncio.timeout(PATIENCE_S):
                await life(server)
            await server.node.close()

        asyncio.run(whole())

    return run


async def publish_one(server: Server) -> None:
    await server.say("held")


async def publish_list(server: Server) -> None:
    await server.service.publish([_message("held"), _message("too")])


async def edit(server: Server) -> None:
    change = MessageEdited(
        uuid="e0",
        channel=ROOM,
        only=None,
        exclude=None,
        edited="t",
        user=None,
        payload=b'"held"',
        timestamp=None,
    )
    await server.service.change([change])


def calls(handler: Callable[[Call], Any], **body: Any) -> Callable[[Server], Coroutine[Any, Any, None]]:
    """Return what makes a call of the API."""

    async def call(server: Server) -> None:
        await finished(handler(Call.internal(server.service, json.dumps(body).encode())))

    return call


connect_zoe = calls(connect, username="zoe", channels=[ROOM])
subscribe_bob = calls(subscribe, conn_id="outside", channels=[ROOM])


@pytest.mark.parametrize(
    ("publish", "item"),
    [
        (publish_one, "held"),
        (publish_list, "held"),
        (edit, "held"),
        (connect_zoe, "zoe joined"),
        (calls(connect, username="zoe", channels=[ROOM], conn_id="own"), "zoe joined"),
        (subscribe_bob, "bob joined"),
        (calls(unsubscribe, conn_id="inside", channels=[ROOM]), "eve parted"),
        (calls(disconnect, conn_id="inside"), "eve parted"),
        (calls(user_state, user="ann", user_state={"a": 1}, state_public_keys=["a"]), "e1"),
    ],
)
def test_a_publisher_is_answered_when_the_next_flush_begins(
    play: Callable[[Life], None], publish: Callable[[Server], Coroutine[Any, Any, None]], item: str
) -> None:
    """While one is under way, and many events wait already for the next one; its event is accepted before that.

    So is one whose call announces a user.
    """

    async def life(server: Server) -> None:
        await server.node.configure({ROOM: {"notify_presence": True, "notify_state": True}})
        await server.node.connect("outside", "bob", V07, {"lobby": {}}, NOTHING)
        await server.node.connect("inside", "eve", V07, {ROOM: {}}, NOTHING)
        server.flush_all()
        await server.fall_behind()
        held = asyncio.create_task(publish(server))
        while server.hub.waiting_events < MANY_EVENTS:
            await asyncio.sleep(0)
        await server.node.head()  # The answer of an engine with a thread of its own is there.
        await turns(20)
        assert not held.done()
        assert not server.hub.flush()
        await turns(20)
        assert not held.done()
        server.hub.flush()
        await held
        server.flush_all()
        assert all(item in tape.items and "e1" in tape.items for tape in server.tapes)

    play(life)


def test_who_announces_nothing_is_answered_at_once(play: Callable[[Life], None]) -> None:
    """However many events of others wait."""

    async def life(server: Server) -> None:
        await server.fall_behind()
        held = asyncio.create_task(publish_one(server))
        while server.hub.waiting_events < MANY_EVENTS:
            await asyncio.sleep(0)
        for call in (connect_zoe, subscribe_bob):  # The channel announces nobody.
            await server.node.connect("outside", "bob", V07, {"lobby": {}}, NOTHING)
            await call(server)
        assert not held.done()
        server.flush_all()
        server.flush_all()
        await held

    play(life)


def test_publishers_are_answered_at_once_as_long_as_no_flush_is_under_way(
    play: Callable[[Life], None],
) -> None:
    async def life(server: Server) -> None:
        for number in range(2 * MANY_EVENTS):
            await server.say(f"e{number}")
        assert server.hub.waiting_events == 2 * MANY_EVENTS

    play(life)


def test_a_publisher_that_has_gone_holds_up_no_other_one(play: Callable[[Life], None]) -> None:
    async def life(server: Server) -> None:
        await server.fall_behind()
        gone, held = (asyncio.create_task(server.say(text)) for text in ("gone", "held"))
        while server.hub.waiting_events < MANY_EVENTS + 1:
            await asyncio.sleep(0)
        gone.cancel()
        await turns(20)
        server.flush_all()
        server.flush_all()
        await held
        assert all(tape.items[-2:] == ["gone", "held"] for tape in server.tapes)

    play(life)
