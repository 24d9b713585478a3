"""Members of channels under names that count there only: who joins and leaves, and what ends them."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any

import pytest
from tests.core.test_explain import Sink
from tests.engines.conformance import MovedClock, Setup
from tests.engines.test_memory import memory_engine
from tests.service.channel_counts import Counts, members_in, occupied_in
from tests.waiting import soon

from channelstream.apps.app import App, AppLimits
from channelstream.apps.keys import make_member_key, name_of
from channelstream.close_codes import CloseCode
from channelstream.core.batch import BufferBatch
from channelstream.core.channel import ChannelSettings
from channelstream.core.connection import Connection, ConnectionState
from channelstream.core.events import Event, Presence, UsersLeft
from channelstream.core.hub import Hub
from channelstream.core.seat import Seat
from channelstream.core.usage import Usage
from channelstream.core.user import UserUpdate
from channelstream.errors import Invalid, TooManyRequests, Unavailable
from channelstream.service import Memberships, Node, Service
from channelstream.service.commands import Release
from channelstream.service.limits import NodeLimits
from channelstream.wire.channelstream import V07
from channelstream.wire.protocols import PROTOCOLS

EMPTY = UserUpdate({}, {})
ROOM = "room"


class Line(Sink):
    """A stream that keeps the codes it was closed with."""

    def __init__(self, closed: list[CloseCode]) -> None:
        super().__init__()
        self._closed = closed

    def close(self, code: CloseCode, reason: str) -> None:
        self._closed.append(code)


class Scene:
    """A node with an application, and what its engine has accepted.

    Attributes:
        closed: the codes with which streams were closed.
    """

    def __init__(self, app_id: str = "default", **limits: Any) -> None:
        self.clock, ids = MovedClock(), count()
        app = App(app_id, AppLimits(**limits))
        self.node = Node(
            memory_engine(Setup(self.clock)),
            Hub(PROTOCOLS.formats, lambda: None, usage=Usage(lambda key: app_id)),
            self.clock,
            lambda: f"id-{next(ids)}",
            NodeLimits(channels_per_connection=4, apps={app_id: app.limits}),
        )
        self.service = Service(app, self.node)
        self.memberships = Memberships(self.service)
        self.events: list[Event] = []
        self.closed: list[CloseCode] = []
        self.node.signals.accepted.connect(lambda entry: self.events.append(entry.event))

    async def connect(self, *conn_ids: str) -> None:
        """Open connections with streams, each of a user of its own."""
        for conn_id in conn_ids:
            await self.service.connect(conn_id, f"anonymous {conn_id}", V07, {}, EMPTY)
            connection = self.held(conn_id)
            self.node.hub.attach(connection, Line(self.closed), BufferBatch(10))
            self.node.local.attached(connection)
            self.node.hub.go_live(connection, ())

    def held(self, conn_id: str) -> Connection:
        connection = self.service.connection(conn_id)
        assert connection is not None
        return connection

    def seat(self, conn_id: str, channel: str = ROOM) -> Connection:
        return (self.held(conn_id).seats or {})[self.service.app.key(channel)]

    def presence(self) -> list[tuple[str, bool]]:
        """Return who joined and left, by name."""
        found: list[tuple[str, bool]] = []
        for event in self.events:
            if isinstance(event, Presence):
                found.append((name_of(event.user), event.joined))
            elif isinstance(event, UsersLeft):
                found += [(name_of(left.user), False) for left in event.departures]
        return found

    async def settle(self) -> None:
        """Wait until all that ends is unregistered."""
        await self.node.local.departures.disconnects.drained()


Life = Callable[[Scene], Awaitable[None]]


def play(life: Life, app_id: str = "default", **limits: Any) -> None:
    async def run() -> None:
        scene = Scene(app_id, **limits)
        await scene.node.start()
        await life(scene)

    asyncio.run(run())


@pytest.mark.parametrize("app_id", ["default", "shop"])
def test_members_share_the_name_of_their_channel(app_id: str) -> None:
    """Each request brings a text of its own, which an idle stream does not keep."""

    async def life(scene: Scene) -> None:
        for user in ("ann", "bob"):
            await scene.service.connect(user, user, V07, {"".join(("a", "-channel")): {}}, EMPTY)
        (one,), (other,) = (each.channels for each in scene.node.hub.connections.values())
        assert one is other

    play(life, app_id)


@pytest.mark.parametrize("app_id", ["default", "shop"])
def test_a_user_joins_with_its_first_connection_and_leaves_with_its_last(app_id: str) -> None:
    """A repeated join changes nothing, and a second connection's other state is not shown."""

    async def life(scene: Scene) -> None:
        await scene.connect("c1", "c2")
        join, leave = scene.memberships.join_as, scene.memberships.leave
        assert await join("c1", ROOM, "ann", {"name": "Ann"}) is True
        assert await join("c1", ROOM, "ann", {"name": "Other"}) is False
        assert await join("c2", ROOM, "ann", {"name": "Third"}) is True
        assert await members_in(scene.memberships, ROOM) == [("ann", {"name": "Ann"})]
        assert await occupied_in(scene.memberships) == {ROOM: Counts(1, 2)}
        assert await leave("c1", ROOM) is True
        assert await leave("c1", ROOM) is False
        assert scene.presence() == [("ann", True)]
        assert await leave("c2", ROOM) is True
        assert scene.presence() == [("ann", True), ("ann", False)]
        assert await join("c2", ROOM, "ann", {"age": 7}) is True
        assert await members_in(scene.memberships, ROOM) == [("ann", {"age": 7})]

    play(life, app_id)


def test_a_connection_that_is_not_here_joins_nothing() -> None:
    """Nor does it leave anything."""

    async def life(scene: Scene) -> None:
        assert await scene.memberships.join_as("c", ROOM, "ann", {}) is None
        assert await scene.memberships.leave("c", ROOM) is None
        assert (await members_in(scene.memberships, ROOM), scene.node.hub.seats) == ([], {})

    play(life)


def test_a_name_counts_in_its_channel_only() -> None:
    """The same name in two channels, and that of a user of the application, are three members."""

    async def life(scene: Scene) -> None:
        await scene.connect("c1")
        await scene.service.connect("c2", "ann", V07, {ROOM: {}}, UserUpdate({"mood": "fine"}, {}, ["mood"]))
        await scene.memberships.join_as("c1", ROOM, "bob", {"name": "Bob"})
        await scene.memberships.join_as("c1", "other", "bob", {"name": "Robert"})
        assert await members_in(scene.memberships, ROOM) == [
            ("ann", {"mood": "fine"}),
            ("bob", {"name": "Bob"}),
        ]
        assert await members_in(scene.memberships, "other") == [("bob", {"name": "Robert"})]
        assert await occupied_in(scene.memberships) == {
            ROOM: Counts(2, 2),
            "other": Counts(1, 1),
        }
        assert await scene.service.members(ROOM) == {"c1": "bob", "c2": "ann"}
        assert await scene.service.members("other") == {"c1": "bob"}
        keys = [make_member_key("default", name, "bob") for name in (ROOM, "other")]
        assert {each.user for each in scene.node.hub.seats.values()} == set(keys)

    play(life)


def test_lists_of_users_have_no_members() -> None:
    """A page or a call about one of them would show a user of the application that has the same name."""

    async def life(scene: Scene) -> None:
        await scene.connect("c1")
        await scene.memberships.join_as("c1", ROOM, "ann", {})
        assert [name_of(user.name) for user in await scene.service.users(None)] == ["anonymous c1"]

    play(life)


def test_presence_is_announced_whatever_the_settings_of_the_channel_are() -> None:
    """Where they are off, only connections that joined under a name receive it."""

    async def life(scene: Scene) -> None:
        await scene.connect("c1", "c2", "c3")
        await scene.service.configure({ROOM: {"notify_presence": False}})
        await scene.service.subscribe("c3", {ROOM: {}})
        await scene.memberships.join_as("c1", ROOM, "ann", {})
        before = scene.node.hub.deliveries
        await scene.memberships.join_as("c2", ROOM, "bob", {})
        assert scene.presence()[-2:] == [("ann", True), ("bob", True)]
        assert scene.node.hub.deliveries == before + 1
        await scene.memberships.join_as("c2", "new", "bob", {})
        [channel] = await scene.service.channels(["new"])
        assert channel.settings == ChannelSettings(notify_presence=True)

    play(life)


async def end_by_call(scene: Scene) -> None:
    assert await scene.service.end("c1", CloseCode.NORMAL, "ended")


async def end_soon(scene: Scene) -> None:
    scene.node.local.departures.end_soon(scene.held("c1"), CloseCode.NORMAL, "ended")


async def lose_the_line(scene: Scene) -> None:
    scene.node.local.detached(scene.held("c1"), 0.0)
    scene.clock.passed_s += 1.0
    await scene.node.sweep()


async def be_taken_over(scene: Scene) -> None:
    scene.node._handover.taken_over("c1")


async def release(scene: Scene) -> None:
    await scene.node._handover.execute(Release(scene.held("c1").id))


@pytest.mark.parametrize("end", [end_by_call, end_soon, lose_the_line, be_taken_over, release])
def test_a_member_ends_with_its_connection(end: Life) -> None:
    """However that ends; in the engine too."""

    async def life(scene: Scene) -> None:
        await scene.connect("c1")
        await scene.memberships.join_as("c1", ROOM, "ann", {})
        await scene.memberships.join_as("c1", "other", "ann", {})
        await end(scene)
        await scene.settle()
        assert scene.presence() == [("ann", True), ("ann", True), ("ann", False), ("ann", False)]
        assert (scene.node.hub.seats, scene.node.hub.channels) == ({}, {})
        assert await occupied_in(scene.memberships) == {}
        assert [ending.conn_id for ending in scene.node.local.endings if ending.final] == ["c1"]

    play(life)


def test_a_connection_that_ends_while_it_joins_leaves_nothing() -> None:
    """The join is not interrupted, and what it has registered ends after it."""

    async def life(scene: Scene) -> None:
        await scene.connect("c1")
        join = scene.node.local._directory.join

        async def overtaken(*asked: Any) -> Any:
            scene.node._handover.taken_over("c1")
            return await join(*asked)

        scene.node.local._directory.join = overtaken  # type: ignore[method-assign]
        assert await scene.memberships.join_as("c1", ROOM, "ann", {}) is None
        await soon(lambda: not scene.node.hub.seats)
        await scene.settle()
        assert scene.presence() == [("ann", True), ("ann", False)]
        assert (scene.node.hub.channels, scene.node.hub.users) == ({}, {})

    play(life)


def test_a_stream_waits_for_a_join_of_its_seat() -> None:
    """Until then the log of that channel cannot be read."""

    async def life(scene: Scene) -> None:
        await scene.connect("c1")
        join, answered = scene.node.local._directory.join, asyncio.Event()

        async def slow(*asked: Any) -> Any:
            await answered.wait()
            return await join(*asked)

        scene.node.local._directory.join = slow  # type: ignore[method-assign]
        joining = asyncio.ensure_future(scene.memberships.join_as("c1", ROOM, "ann", {}))
        await soon(lambda: bool(scene.held("c1").all_joining))
        waiting = asyncio.ensure_future(scene.node.local.joined(scene.held("c1")))
        await asyncio.sleep(0)
        assert not waiting.done()
        answered.set()
        await waiting
        assert await joining is True

    play(life)


@pytest.mark.parametrize("step", ["connect", "join"])
def test_a_join_that_fails_leaves_nothing(step: str) -> None:
    """And it can be repeated."""

    async def life(scene: Scene) -> None:
        await scene.connect("c1")
        directory = scene.node.local._directory
        works = getattr(directory, step)

        async def fail(*_: Any) -> None:
            raise Unavailable("the engine is out of reach")

        setattr(directory, step, fail)
        with pytest.raises(Unavailable):
            await scene.memberships.join_as("c1", ROOM, "ann", {})
        await soon(lambda: not scene.node.hub.seats)
        await scene.settle()
        assert (scene.held("c1").seats, scene.presence()) == (None, [])
        setattr(directory, step, works)
        assert await scene.memberships.join_as("c1", ROOM, "ann", {}) is True

    play(life)


def test_an_id_that_is_taken_is_refused() -> None:
    """It cannot be: nobody else makes ids of seats."""

    async def life(scene: Scene) -> None:
        await scene.connect("c1")

        async def taken(*_: Any) -> None:
            return None

        scene.node.local._directory.connect = taken  # type: ignore[method-assign, assignment]
        with pytest.raises(Unavailable):
            await scene.memberships.join_as("c1", ROOM, "ann", {})
        assert scene.node.hub.seats == {}

    play(life)


def test_the_limits_count_the_channels_of_seats() -> None:
    """Those of a connection and of the application; a seat is no further connection."""

    async def life(scene: Scene) -> None:
        await scene.connect("c1", "c2")
        for number in range(3):
            await scene.memberships.join_as("c1", f"room {number}", "ann", {})
        await scene.service.subscribe("c1", {"room 0 too": {}})
        with pytest.raises(Invalid):
            await scene.memberships.join_as("c1", "room 0", "ann", {}) or await scene.memberships.join_as(
                "c1", "room 4", "ann", {}
            )
        with pytest.raises(Invalid):
            await scene.service.subscribe("c1", {"room 4": {}})
        with pytest.raises(TooManyRequests):
            await scene.memberships.join_as("c2", "room 4", "ann", {})

    play(life, connections=2, channels=4)


def test_seats_are_reported_to_a_cluster_as_connections_are() -> None:
    """So their registrations are repaired; what was lost closes the stream of the holder."""

    async def life(scene: Scene) -> None:
        from channelstream.service.cluster_calls import ClusterCalls

        node = scene.node
        calls = ClusterCalls(node.hub, node._handover, node.remote_calls, node.signals)
        await scene.connect("c1")
        assert list(calls.local_connections()) == ["c1"]
        await scene.memberships.join_as("c1", ROOM, "ann", {})
        seat = scene.seat("c1")
        assert list(calls.local_connections()) == ["c1", seat.id]
        membership = calls.membership(seat.id)
        assert membership is not None
        assert (membership.member.user, list(membership.channels)) == (seat.user, [ROOM])
        assert calls.has_user(seat.user)
        calls.lost([], [seat.user])
        calls.lost([ROOM], [])
        calls.log_replaced(0, (0,))
        assert scene.closed == [
            CloseCode.TOO_SLOW,
            CloseCode.TOO_SLOW,
            CloseCode.RESTARTING,
            CloseCode.RESTARTING,
        ]
        calls.taken_over(seat.id)
        assert scene.held("c1").seats is None

    play(life)


def test_all_connections_in_a_channel_end() -> None:
    """The others stay."""

    async def life(scene: Scene) -> None:
        await scene.connect("c1", "c2", "c3")
        await scene.service.subscribe("c1", {ROOM: {}})
        await scene.memberships.join_as("c2", ROOM, "ann", {})
        assert await scene.memberships.end_in(ROOM, CloseCode.NORMAL, "ended") == 2
        await scene.settle()
        assert [each.id for each in await scene.service.connections()] == ["c3"]
        assert await scene.memberships.end_in("unknown", CloseCode.NORMAL, "ended") == 0

    play(life)


def test_a_closed_seat_is_unregistered_once() -> None:
    """A connection that ends while its member is leaving."""

    async def life(scene: Scene) -> None:
        await scene.connect("c1")
        await scene.memberships.join_as("c1", ROOM, "ann", {})
        seat = scene.seat("c1")
        assert isinstance(seat, Seat)
        leaving = asyncio.ensure_future(scene.memberships.leave("c1", ROOM))
        await asyncio.sleep(0)
        await be_taken_over(scene)
        await leaving
        await scene.settle()
        assert (seat.state, scene.presence()) == (ConnectionState.CLOSED, [("ann", True), ("ann", False)])

    play(life)
