"""Local connections of a node, whose changes wait for the lock of their id."""

import asyncio
from contextlib import suppress
from itertools import count
from typing import Any

import pytest
from tests.census import left_by
from tests.core.test_explain import Sink
from tests.engines.conformance import MovedClock, Setup
from tests.engines.test_memory import memory_engine

from channelstream.config import Settings
from channelstream.core.batch import BufferBatch
from channelstream.core.connection import NO_NAMES, Connection
from channelstream.core.deadlines import SLOT_S
from channelstream.core.hub import Hub
from channelstream.core.user import MAX_STATE_KEYS, UserUpdate
from channelstream.engines.members import Member
from channelstream.errors import Invalid, Moved, Unavailable
from channelstream.server import build
from channelstream.service import Node
from channelstream.service.limits import NodeLimits
from channelstream.slices import MANY
from channelstream.wire.channelstream import V07
from channelstream.wire.protocols import PROTOCOLS

EMPTY = UserUpdate({}, {})
UNATTACHED_S = 15.0
GRACE_S = 40.0


async def timed_node() -> tuple[Node, MovedClock]:
    """A node whose clock is moved by hand."""
    clock, ids = MovedClock(), count()
    limits = NodeLimits(unattached_s=UNATTACHED_S)
    node = Node(
        memory_engine(Setup(clock)),
        Hub(PROTOCOLS.formats, lambda: None),
        clock,
        lambda: f"id-{next(ids)}",
        limits,
    )
    await node.start()
    return node, clock


async def lives_for(node: Node, clock: MovedClock, seconds: float) -> bool:
    """Whether the connection is there just before so many seconds have passed, and is gone just after that."""
    clock.passed_s += seconds - 2 * SLOT_S
    await node.sweep()
    before = node.connection("c") is not None
    clock.passed_s += 4 * SLOT_S
    await node.sweep()
    return before and node.connection("c") is None


async def node_with_a_stream() -> tuple[Node, MovedClock, Connection]:
    node, clock = await timed_node()
    await node.connect("c", "ann", V07, {"a": {}}, EMPTY)
    connection = node.connection("c")
    assert connection is not None
    node.hub.attach(connection, Sink(), BufferBatch(1))
    node.local.attached(connection)
    return node, clock, connection


def test_a_connection_that_never_has_a_stream_ends() -> None:
    """After `unattached_timeout_s`."""

    async def life() -> None:
        node, clock = await timed_node()
        await node.connect("c", "ann", V07, {"a": {}}, EMPTY)
        assert await lives_for(node, clock, UNATTACHED_S)

    asyncio.run(life())


def test_a_registration_that_takes_a_wait_leaves_nothing_behind() -> None:
    """The node holds the connection before it asks the engine, which refuses as many channels as need several turns."""

    async def life() -> None:
        node, _ = await timed_node()
        channels: dict[str, dict[str, Any]] = {f"channel-{number}": {} for number in range(MANY)}
        member = Member("c", "ann", V07)
        assert node.connect_at_once(member, channels, EMPTY, "") is None
        assert not node.hub.connections
        assert not node.hub.users
        assert not node.hub.channels
        user = node.connect_at_once(member, {"a": {}}, EMPTY, "")
        assert user is not None
        assert user.name == "ann"
        assert list(node.hub.connections) == ["c"]
        assert node.hub.usage.channels == node.hub.usage.connections == {"": 1}

    asyncio.run(life())


def test_a_registration_that_the_engine_refuses_leaves_nothing_behind() -> None:
    """Nor does it end later, as a connection that waits for its stream does."""

    async def life() -> None:
        node, clock = await timed_node()
        state = UserUpdate(dict.fromkeys(map(str, range(MAX_STATE_KEYS + 1)), 1), {})
        with pytest.raises(Invalid):
            node.connect_at_once(Member("c", "ann", V07), {"a": {}}, state, "")
        assert not node.hub.connections
        assert not node.hub.users
        assert not node.hub.channels
        clock.passed_s += 2 * UNATTACHED_S
        await node.sweep()
        assert not node.local.endings.counts

    asyncio.run(life())


def test_a_connection_holds_no_set_of_what_it_has_joined_or_left() -> None:
    """Idle connections are many, and an empty set takes 216 bytes."""

    async def life() -> None:
        node, _ = await timed_node()
        await node.connect("c", "ann", V07, {"a": {}}, EMPTY)
        await node.subscribe("c", {"b": {}})
        await node.unsubscribe("c", ["b"])
        connection = node.connection("c")
        assert connection is not None
        assert list(connection.channels) == ["a"]
        assert connection.joining is connection.leaving is NO_NAMES

    asyncio.run(life())


def test_a_new_connection_shares_its_position_with_the_hub() -> None:
    """Very many connections begin at the same one."""

    async def life() -> None:
        node, _ = await timed_node()
        assert node.connect_at_once(Member("c", "ann", V07), {"a": {}}, EMPTY, "") is not None
        assert node.hub.connections["c"].delivered is node.hub.offsets

    asyncio.run(life())


def test_a_connection_that_leaves_the_node_while_it_joins_has_moved() -> None:
    """No stream is opened for it, and no call says that it has joined."""

    async def life() -> None:
        node, _ = await timed_node()
        await node.connect("c", "ann", V07, {"a": {}}, EMPTY)
        connection, join = node.connection("c"), node.local._directory.join
        assert connection is not None

        async def overtaken(*asked: Any) -> Any:
            node._handover.taken_over("c")
            return await join(*asked)

        node.local._directory.join = overtaken  # type: ignore[method-assign]
        with pytest.raises(Moved):
            await node.local.join(connection, {"b": {}}, None)
        assert not node.hub.channels

    asyncio.run(life())


def test_a_connection_that_loses_its_stream_ends_after_its_grace() -> None:
    """Not while it has a stream, and not before that."""

    async def life() -> None:
        node, clock, connection = await node_with_a_stream()
        clock.passed_s += 100 * UNATTACHED_S
        await node.sweep()
        assert node.connection("c") is connection
        node.local.detached(connection, GRACE_S)
        assert await lives_for(node, clock, GRACE_S)

    asyncio.run(life())


def test_a_client_that_reconnects_has_a_new_deadline() -> None:
    """From then on; a shorter time shortens nothing."""

    async def life() -> None:
        node, clock, connection = await node_with_a_stream()
        node.local.detached(connection, GRACE_S)
        clock.passed_s += GRACE_S / 2
        node.local.extend(connection, GRACE_S)
        node.local.extend(connection, GRACE_S / 4)
        assert await lives_for(node, clock, GRACE_S)

    asyncio.run(life())


def test_a_connection_that_reconnects_before_its_end_is_kept() -> None:
    """The sweep checks the deadline again when it has the lock."""

    async def life() -> None:
        node = build(Settings(secret="x", admin_secret="y", unattached_timeout_s=60)).node
        await node.start()
        await node.connect("c", "ann", V07, {"a": {}}, EMPTY)
        connection = node.connection("c")
        assert connection is not None
        for stays in (True, False):
            node.local.departures.deadlines.drop(connection)
            connection.deadline_s = None
            node.local.departures.extend(connection, -1.0)
            async with node.local.locks.of("c"):
                sweep = asyncio.create_task(node.sweep())
                await asyncio.sleep(0)
                if stays:  # As a repeated /connect does that had the turn.
                    node.local.departures.extend(connection, 60.0)
            await sweep
            assert (node.connection("c") is not None) == stays

    asyncio.run(life())


def test_a_stream_waits_for_channels_that_are_joined_again() -> None:
    """Else its `resumed` lacks them, and they are never reported lost."""

    async def life() -> None:
        node, _ = await timed_node()
        await node.connect("c", "ann", V07, {}, EMPTY)
        connection, asked, answered = node.hub.connections["c"], asyncio.Event(), asyncio.Event()
        join = node._engine.join

        async def slow(*about: Any, **more: Any) -> dict[str, int]:
            asked.set()
            await answered.wait()
            return await join(*about, **more)

        node._engine.join = slow  # type: ignore[method-assign]

        async def take_over() -> None:
            async with node.local.locks.of("c"):
                await node.local.join_again(connection, ["a"])

        taken = asyncio.ensure_future(take_over())
        await asked.wait()
        opening = asyncio.ensure_future(node.local.registered(connection))
        await asyncio.sleep(0)
        assert not opening.done()
        answered.set()
        await asyncio.gather(taken, opening)
        assert (list(connection.channels), connection.joining) == (["a"], frozenset())

    asyncio.run(life())


def test_a_connection_whose_channels_cannot_be_joined_again_ends_and_leaves_no_garbage() -> None:
    async def life() -> None:
        node, _ = await timed_node()

        async def refuse(*_about: Any, **_more: Any) -> dict[str, int]:
            raise Unavailable("out of reach")

        node._engine.join = refuse  # type: ignore[method-assign]

        async def end() -> None:
            await node.connect("c", "ann", V07, {}, EMPTY)
            with suppress(Unavailable):
                async with node.local.locks.of("c"):
                    await node.local.join_again(node.hub.connections["c"], ["a"])
            assert node.connection("c") is None

        assert await left_by(end, 20) == {}

    asyncio.run(life())
