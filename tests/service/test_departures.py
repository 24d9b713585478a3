"""Connections that leave together, in many short turns of the loop."""

import asyncio
import json
from collections.abc import Callable, Coroutine, Sequence
from itertools import pairwise
from typing import Any

import pytest
from tests.waiting import soon

from channelstream import slices
from channelstream.close_codes import CloseCode
from channelstream.config import Settings
from channelstream.core.connection import ConnectionState
from channelstream.core.entry import Entry
from channelstream.core.events import UsersLeft
from channelstream.core.user import UserUpdate
from channelstream.engines.members import Leaving, Member
from channelstream.errors import Unavailable
from channelstream.server import build
from channelstream.service import Node
from channelstream.service.disconnect_queue import DisconnectQueue
from channelstream.service.locks import Locks
from channelstream.transports.attachment import Attachment
from channelstream.wire.channelstream import V07
from channelstream.wire.framing import Framing
from channelstream.wire.protocols import PROTOCOLS

EMPTY = UserUpdate({}, {})
MANY = 40
LOUD = {"a": {"notify_presence": True}}


class Paper:
    """A stream that keeps its writes."""

    session = PROTOCOLS.session_of(V07, Framing.POLL)
    format = session.format

    def __init__(self) -> None:
        self.leads: list[bytes] = []
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def write_first(self, data: bytes) -> None:
        self.leads.append(data)

    def caught_up(self) -> None:
        """Nothing waits for that."""

    def close(self, code: CloseCode, reason: str) -> None:
        raise AssertionError(reason)

    def buffered_bytes(self) -> int:
        return 0


async def crowd(count: int = MANY) -> Node:
    """A node with so many users in one channel."""
    node = build(Settings(secret="x", admin_secret="y", unattached_timeout_s=60)).node
    await node.start()
    for number in range(count):
        await node.connect(f"c{number}", f"u{number}", V07, LOUD, EMPTY)
    return node


def overdue(node: Node) -> None:
    for connection in node.hub.connections.values():
        connection.deadline_s = 0.0
        node.local.departures.deadlines.set(connection, 0.0)


def listen(node: Node) -> list[Entry]:
    """Return a list to which every entry is added that the node receives from now on."""
    received: list[Entry] = []
    deliver = node.deliver

    def note(entry: Entry) -> None:
        received.append(entry)
        deliver(entry)

    node.deliver = note
    return received


def played(life: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(life())


def test_users_that_expire_in_one_turn_leave_in_one_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in one for each: a remaining member gets one step for all of them."""
    monkeypatch.setattr(slices, "TURN_S", 3600.0)

    async def life() -> None:
        node = await crowd()
        overdue(node)
        received = listen(node)
        await node.sweep()
        (entry,) = received
        assert isinstance(entry.event, UsersLeft)
        assert len(entry.event.departures) == MANY
        assert (node.hub.connections, len(node.local.locks)) == ({}, 0)

    played(life)


def test_a_user_allowed_only_its_own_part_of_an_event_is_sent_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The application lets the last of two users who have left together read from after the first one."""
    monkeypatch.setattr(slices, "TURN_S", 3600.0)

    async def life() -> None:
        node = await crowd(2)
        overdue(node)
        received = listen(node)
        await node.sweep()
        (left,) = received
        first, last = left.split()
        (user,) = last.event.about
        await node.connect("again", user, V07, LOUD, EMPTY, since=first.position)
        connection = node.hub.connections["again"]
        stream = Paper()
        Attachment(node, connection, stream).start(first.position)
        await soon(lambda: connection.state is ConnectionState.LIVE)
        assert [item["type"] for data in stream.leads for item in json.loads(data)] == ["resumed"]
        assert stream.written == []

    played(life)


def test_other_tasks_run_while_many_connections_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    """A channel becomes empty step by step, in each turn by no more than a turn has time for."""
    monkeypatch.setattr(slices, "TURN_S", -1.0)

    async def life() -> None:
        node = await crowd()
        overdue(node)
        sweep, seen = asyncio.create_task(node.sweep()), []
        while not sweep.done():
            await asyncio.sleep(0)
            (channel,) = await node.directory.channels(["a"])
            seen.append(channel.connections)
        steps = [before - after for before, after in pairwise(seen)]
        assert max(steps) == 1
        assert seen[-1] == 0

    played(life)


@pytest.mark.parametrize("count", [1, MANY])
def test_an_id_reused_between_two_turns_is_another_connection(
    monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """It is made when the engine has unregistered the old connection of the id, and nobody ends it."""
    monkeypatch.setattr(slices, "TURN_S", -1.0)

    async def life() -> None:
        node = await crowd(count)
        last = node.connection(f"c{count - 1}")
        for connection in list(node.hub.connections.values()):
            node.local.departures.end_soon(connection, CloseCode.NORMAL, "good-bye")
        assert node.hub.connections == {}
        await node.connect(f"c{count - 1}", "another", V07, LOUD, EMPTY)
        await node.local.departures.disconnects.drained()
        (user,) = await node.directory.users(["another"])
        (channel,) = await node.directory.channels(["a"])
        assert (user.connections, channel.users) == (1, {"another": 1})
        assert node.connection(f"c{count - 1}") not in (None, last)

    played(life)


def test_pending_calls_of_a_connection_complete_before_its_end() -> None:
    """Its end waits for the lock of its id, and for no other."""

    async def life() -> None:
        node = await crowd(2)
        busy, other = node.connection("c0"), node.connection("c1")
        assert busy is not None
        assert other is not None
        async with node.local.locks.of("c0"):
            for connection in (busy, other, other):
                node.local.departures.end_soon(connection, CloseCode.NORMAL, "good-bye")
            await asyncio.sleep(0)
            assert list(node.hub.connections) == ["c0"]
        await node.end("c0", CloseCode.NORMAL, "ended meanwhile")
        await node.local.departures.disconnects.drained()
        assert (node.hub.connections, len(node.local.locks)) == ({}, 0)

    played(life)


@pytest.mark.parametrize("error", [Unavailable("Not now."), ZeroDivisionError()])
def test_a_failed_engine_releases_the_locks_of_its_sweep(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """The locks are released, the sweep raises that the engine is unreachable, and the next ones leave."""

    async def life() -> None:
        node = await crowd(3)
        departures = node.local.departures.disconnects
        disconnect = departures._disconnect

        async def fail(leaving: list[Leaving]) -> None:
            departures._disconnect = disconnect
            raise error

        departures._disconnect = fail  # type: ignore[assignment]
        overdue(node)
        if isinstance(error, Unavailable):
            with pytest.raises(Unavailable):
                await node.sweep()
        else:
            await node.sweep()
        await node.sweep()
        assert len(node.local.locks) == 0

    played(life)


def test_a_later_end_is_not_waited_for() -> None:
    """The sweep continues though connections keep leaving."""

    async def life() -> int:
        turns, counted = Locks(), 0

        def leave() -> None:
            name = f"ann-{counted}"
            turn = turns.try_acquire(name)
            assert turn is not None
            departures.add(Leaving(Member(name, "ann", V07), []), turn)

        async def disconnect(leaving: Sequence[Leaving]) -> None:
            nonlocal counted
            counted += len(leaving)
            if counted < 100:
                leave()
            await asyncio.sleep(0)

        departures = DisconnectQueue(disconnect)
        leave()
        await departures.drained()
        return counted

    assert asyncio.run(life()) < 5
