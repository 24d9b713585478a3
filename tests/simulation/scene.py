"""A server on a gated engine, the calls about one of its connections, and what holds after each step of them."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any

from tests.simulation.failure import Failure, demand
from tests.simulation.gated_engines import DisklessEngine, GatedDisk, LateEngine
from tests.simulation.gates import Gates
from tests.simulation.kept_message import KeptMessage
from tests.simulation.line import Line
from tests.simulation.world import WorldClock

from channelstream.apps.app import App, Apps
from channelstream.close_codes import CloseCode
from channelstream.core.accepted import Accepted
from channelstream.core.channel import Channel
from channelstream.core.connection import ConnectionState
from channelstream.core.entry import Entry
from channelstream.core.events import Event, Message, MessageDeleted, MessageEdited, Presence
from channelstream.core.hub import Hub
from channelstream.core.log import PRIVATE
from channelstream.core.policy import Policy
from channelstream.core.registry import Registry
from channelstream.core.registry_limits import Lifetimes, RegistryLimits
from channelstream.core.user import UserUpdate
from channelstream.engines.memory import MemoryEngine
from channelstream.errors import ChannelstreamError, Unavailable
from channelstream.service import Node, NodeLimits, Services
from channelstream.transports.longpoll import PollStream
from channelstream.transports.settings import StreamSettings
from channelstream.transports.streams import Streams
from channelstream.transports.websocket import WebSocketStream
from channelstream.wire.channelstream import V07
from channelstream.wire.protocols import PROTOCOLS

CHANNELS_EACH = 2
"""How many channels a connection may be in."""
GRACE_S = 6.0
LEFT_AFTER = 6
"""Turns of the loop in which the client of a poll may go away: its entries in the log are answered meanwhile."""
UUID = "11111111-1111-4111-8111-111111111111"
MESSAGE = Message(uuid=UUID, channel="a", user="app", payload=b"1", timestamp="2026-01-01T00:00:00.000000")
EDIT = MessageEdited(uuid=UUID, channel="a", edited=MESSAGE.timestamp, payload=b"2")
DELETION = MessageDeleted(uuid=UUID, channel="a")


class SceneClock(WorldClock):
    """The loop's time, which moves also while calls wait."""

    def __init__(self) -> None:
        super().__init__()
        self.passed_s = 0.0

    def steady(self) -> float:
        return super().steady() + self.passed_s


class Scene:
    """A server with its engine, and the calls about the connection `c`."""

    def __init__(self, engine: str, gates: Gates) -> None:
        ids = (f"00000000-0000-4000-8000-{each:012x}" for each in count())
        clock = self._clock = SceneClock()
        self.gates = gates
        gates.check = self.check
        self.registry = Registry(RegistryLimits(), lambda: next(ids))
        own: Any = (
            MemoryEngine(self.registry, clock, "e", Lifetimes())
            if engine == "late"
            else DisklessEngine(self.registry, clock, GatedDisk(gates), lambda: next(ids))
        )
        self.hub = Hub(
            PROTOCOLS.formats, lambda: asyncio.get_running_loop().call_soon(self.hub.flush) and None
        )
        reached: Any = LateEngine(own, gates) if engine == "late" else own
        self.node = Node(reached, self.hub, clock, lambda: next(ids), NodeLimits(10, CHANNELS_EACH))
        self.streams = Streams(
            Services(Apps(App()), self.node), StreamSettings(detach_grace_s=GRACE_S), Policy()
        )
        self._present: set[tuple[str | None, str]] = set()
        self._deliver, self.node.deliver = self.node.deliver, self._deliver_and_check
        self._numbers = count(70)
        self._refused: set[int] = set()
        self._delivered: set[type[Event]] = set()
        self._kept: defaultdict[Channel, KeptMessage] = defaultdict(partial(KeptMessage, EDIT.payload))
        self._opened = 0
        self._failures: list[Failure] = []
        self._beginning: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def _deliver_and_check(self, entry: Entry) -> None:
        try:
            self._check_presence(entry)
            self._note_message(entry)
        except Failure as failure:  # An engine continues whatever its receiver raises.
            self._failures.append(failure)
        self._deliver(entry)

    def _check_presence(self, entry: Entry) -> None:
        event = entry.event
        if isinstance(event, Presence):
            key = (event.channel, event.user)
            demand((key in self._present) != event.joined, "joined or parted twice in a row:", key)
            (self._present.add if event.joined else self._present.remove)(key)
            mood = (event.state or {}).get("mood")
            demand(mood not in self._refused, "presence has a state that was refused:", mood)

    def _note_message(self, entry: Entry) -> None:
        """Note what the log must have; a channel whose creation is refused takes its log along."""
        self._delivered.add(type(entry.event))
        if self._channel is not None:
            self._kept[self._channel].add(entry.event)

    @property
    def _channel(self) -> Channel | None:
        """The channel of the message; None while it is unknown, and what is published in it is kept nowhere."""
        return self.registry.channels.get("a")

    # -- calls

    async def publish(self) -> None:
        await self._accept(self.node.publish([MESSAGE]))

    async def edit(self) -> None:
        await self._accept(self.node.change([EDIT]))

    async def delete(self) -> None:
        await self._accept(self.node.change([DELETION]))

    async def _accept(self, accepting: Awaitable[Sequence[Accepted]]) -> None:
        channel = self._channel
        answers = await accepting
        self.check()
        came = bool(self._delivered & {Message, MessageDeleted})
        for answer in answers:
            demand(came or not answer.duplicate, "a duplicate of nothing:", answer.event)
        if channel is not None:
            self._kept[channel].check_answers(answers)

    async def connect(self, *channels: str, user: str = "ann") -> None:
        await self.node.connect("c", user, V07, self._announced(channels), UserUpdate({"k": 1}, {}))

    async def give_up_connecting(self) -> None:
        """Connect as a caller that leaves before it is answered."""

        async def connect() -> None:
            with suppress(ChannelstreamError):
                await self.connect("a")

        def leave(_: bool) -> None:
            asked.cancel()

        asked = asyncio.ensure_future(connect())
        # Who leaves after the answer changes nothing, at whatever step of other calls.
        asked.add_done_callback(lambda _: self.gates.withdraw(leave))
        self.gates.add(leave, can_fail=False)
        with suppress(asyncio.CancelledError):
            await asked

    async def subscribe(self, *channels: str) -> None:
        await self.node.subscribe("c", self._announced(channels))

    async def unsubscribe(self, *channels: str) -> None:
        await self.node.unsubscribe("c", channels)

    async def end(self) -> None:
        await self.node.end("c", CloseCode.NORMAL, "ended by the application")

    async def configure(self) -> None:
        """Have the settings of a channel changed; a refused change has no effect."""
        size = next(self._numbers)
        try:
            await self.node.configure({"a": {"history_size": size}})
        except Unavailable:
            channel = self.registry.channels.get("a")
            demand(channel is None or channel.settings.history_size != size, "refused and done")
            raise

    async def change_state(self) -> None:
        """Have the user's state changed; a refused one must not be announced."""
        mood = next(self._numbers)
        try:
            await self.node.update_user("ann", UserUpdate({"mood": mood}, {}, ["mood"]))
        except Unavailable:
            self._refused.add(mood)
            user = self.registry.users.get("ann")
            demand(user is None or user.state.get("mood") != mood, "refused and done")
            raise

    async def close_normally(self) -> None:
        """Open a socket, and close it with the code that ends the connection."""
        line = self._socket()
        if line is not None:
            await asyncio.sleep(0)
            line.protocol.data_received(b"\x88\x82\0\0\0\0\x03\xe8")

    async def lose_socket(self) -> None:
        """Open a socket and lose it; the connection is expired after its grace."""
        line = self._socket()
        if line is not None:
            await asyncio.sleep(0)
            line.abort()
            while self._has_stream:
                await asyncio.sleep(0)
            self._clock.passed_s += 2 * GRACE_S
            await self.gates.passed(can_fail=False)
            await self.node.sweep()

    async def leave_poll(self) -> None:
        """Poll as a client of the older generation, which has no position, and go away while it is answered.

        What it was sent then is its next stream's.
        """
        connection = self.node.connection("c")
        if connection is None:
            return
        is_registered = PRIVATE not in connection.joining
        number = self._count_stream()
        stream, gone = PollStream(self.streams, connection), asyncio.Event()
        stream.open(None)
        before = connection.delivered

        async def until_gone() -> None:
            await gone.wait()

        answer = asyncio.ensure_future(stream.wait(until_gone))
        for _ in range(self.gates.choose(LEFT_AFTER)):
            await asyncio.sleep(0)
        gone.set()
        if await answer is None and is_registered and number == self._opened:
            demand(connection.delivered == before, "counted as received by a client that had gone")

    def _count_stream(self) -> int:
        """Return the number of a stream that opens now."""
        self._opened += 1
        return self._opened

    @property
    def _has_stream(self) -> bool:
        connection = self.node.connection("c")
        return connection is not None and connection.stream is not None

    def _socket(self) -> Line | None:
        connection = self.node.connection("c")
        if connection is None:
            return None
        self._count_stream()
        line = Line(65_536, pauses_late=False)
        line.protocol = stream = WebSocketStream(self.streams, line, connection, deflate=False)
        stream.open("")
        return line

    @staticmethod
    def _announced(channels: Sequence[str]) -> dict[str, dict[str, Any]]:
        return {name: {"notify_presence": True} for name in channels}

    # -- what holds

    def check(self) -> None:
        """Check what holds at any moment."""
        for failure in self._failures:
            raise failure
        for connection in self.hub.connections.values():
            demand(connection.state is not ConnectionState.CLOSED, "a closed connection is kept")
            demand(len(connection.channels) <= CHANNELS_EACH, "in too many channels:", *connection.channels)
        here = set(self.hub.connections.values())
        for name, members in (self.hub.channels | self.hub.users).items():
            demand(bool(members) and set(members) <= here, "the index keeps the closed:", name)
        if self._channel is not None:
            self._kept[self._channel].check(self._channel.log)

    def check_counts(self) -> None:
        """Check, while nothing is under way, that the engine has registered exactly the connections that exist."""
        self.check()
        for name, channel in self.registry.channels.items():
            here = [member.user for member in self.hub.channels.get(name, ())]
            demand(
                channel.users == {user: here.count(user) for user in here}, "miscounted:", name, channel.users
            )
            present = {user for where, user in self._present if where == name}
            announced = set(here) if channel.settings.notify_presence else set()
            demand(present == announced, "announced as present in", name, present)
        for name, user in self.registry.users.items():
            counted, held = user.connections, len(self.hub.users.get(name, ()))
            demand(counted == held, "connections miscounted:", name, counted, "instead of", held)
        demand(not len(self.node.local.locks), "turns are kept:", len(self.node.local.locks))

    async def run(self, calls: Sequence["Call"], is_connected: bool) -> None:
        """Play calls concurrently."""
        await self.node.start()
        if is_connected:
            await self.connect("a")
        self.gates.are_open = False
        await asyncio.gather(*map(self._play, calls))
        self.gates.are_open = True
        await asyncio.sleep(2.0)  # virtual time: an engine that has failed tries again what nobody waits for
        self.check_counts()
        await self.end()
        await asyncio.sleep(2.0)  # virtual time: the same
        self.check_counts()
        demand(not self.hub.connections, "a connection is left")

    async def _play(self, call: "Call") -> None:
        # Calls that are alike begin in one order: in the other ones the same would happen.
        async with self._beginning[call.name]:
            await self.gates.passed(can_fail=False)
        self.check()
        try:
            await call.work(self)
        except ChannelstreamError:
            pass  # The application gets the error.
        self.check()


@dataclass(frozen=True, slots=True)
class Call:
    """A call about the connection, by the name that failures show."""

    name: str
    work: Callable[[Scene], Coroutine[Any, Any, None]]


CALLS = {
    call.name: call
    for call in (
        Call("connect a", lambda scene: scene.connect("a")),
        Call("connect a b", lambda scene: scene.connect("a", "b")),
        Call("connect another user", lambda scene: scene.connect("c", user="bob")),
        Call("given-up connect", Scene.give_up_connecting),
        Call("subscribe a b", lambda scene: scene.subscribe("a", "b")),
        Call("subscribe c", lambda scene: scene.subscribe("c")),
        Call("unsubscribe a", lambda scene: scene.unsubscribe("a")),
        Call("end", Scene.end),
        Call("good-bye", Scene.close_normally),
        Call("lost socket", Scene.lose_socket),
        Call("configure a", Scene.configure),
        Call("change state", Scene.change_state),
        Call("publish", Scene.publish),
        Call("edit", Scene.edit),
        Call("delete", Scene.delete),
        Call("left poll", Scene.leave_poll),
    )
}
