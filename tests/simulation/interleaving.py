"""Plays a few calls about one connection in every order in which their steps can fall, and with every one failure.

A call runs until it waits for its engine; when all wait, one of them is released, or fails. All ways to choose are
played, each from the beginning. After each, all registrations must agree.
"""

import asyncio
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Any

from tests.simulation.failure import Failure, demand
from tests.simulation.kept_message import KeptMessage
from tests.simulation.line import Line
from tests.simulation.loop import VirtualLoop, kill_others
from tests.simulation.world import WRITES, WorldClock

from channelstream.apps.app import App, Apps
from channelstream.core.channel import Channel
from channelstream.core.connection import ConnectionState
from channelstream.core.entry import Entry
from channelstream.core.events import Event, Message, MessageDeleted, MessageEdited, Presence
from channelstream.core.hub import Hub
from channelstream.core.log import PRIVATE, Accepted
from channelstream.core.policy import Policy
from channelstream.core.registry import Registry, RegistryLimits
from channelstream.core.user import UserUpdate
from channelstream.engines.incoming_state import TakenState
from channelstream.engines.local_log import Lifetimes
from channelstream.engines.memory import MemoryEngine
from channelstream.engines.sqlite import SqliteEngine
from channelstream.engines.sqlite_erasing import Erasing
from channelstream.engines.sqlite_file import Stored, Writes
from channelstream.engines.sqlite_restore import Restore
from channelstream.engines.sqlite_rows import Row
from channelstream.errors import ChannelstreamError, CloseCode, Unavailable
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


class Choices:
    """One way through: the choice at each fork, first as given, then always the first, or at random."""

    def __init__(self, given: Sequence[int] = (), chance: random.Random | None = None) -> None:
        self._given = given
        self._chance = chance
        self._taken: list[tuple[int, int]] = []

    def choose(self, options: int) -> int:
        number = len(self._taken)
        first = self._chance.randrange(options) if self._chance else 0
        choice = self._given[number] if number < len(self._given) else first
        self._taken.append((choice, options))
        return choice

    def following(self) -> list[int] | None:
        """Return the next way; None after the last."""
        taken = list(self._taken)
        while taken and taken[-1][0] + 1 == taken[-1][1]:
            taken.pop()
        return [choice for choice, _ in taken[:-1]] + [taken[-1][0] + 1] if taken else None


class Gates:
    """Where calls wait to be released; one of them in each run may fail instead.

    Attributes:
        check: is called before each release, when nothing else is ready.
    """

    def __init__(self, choices: Choices, may_fail: bool) -> None:
        self.are_open = True
        self.check: Callable[[], None] = lambda: None
        self._choices = choices
        self._may_fail = may_fail
        self._waiting: list[Callable[[bool], None]] = []
        self._can_fail: list[bool] = []

    def choose(self, options: int) -> int:
        """Choose one of so many ways to continue."""
        return self._choices.choose(options)

    def add(self, go_on: Callable[[bool], None], can_fail: bool) -> None:
        """Add a waiter, a callback whose argument is whether it succeeds."""
        if self.are_open:
            go_on(True)
            return
        self._waiting.append(go_on)
        self._can_fail.append(can_fail)

    async def passed(self, can_fail: bool) -> None:
        """Wait here. A cancelled caller waits no longer: its release would change nothing.

        Raises:
            Unavailable: it has failed.
        """
        gate: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        go_on = gate.set_result
        self.add(go_on, can_fail)
        try:
            works = await gate
        except asyncio.CancelledError:
            self.withdraw(go_on)
            raise
        if not works:
            raise Unavailable("Not now.")

    def withdraw(self, go_on: Callable[[bool], None]) -> None:
        """Remove a waiter, if it still waits: its release would change nothing, in whatever order."""
        if go_on in self._waiting:
            number = self._waiting.index(go_on)
            del self._waiting[number], self._can_fail[number]

    def release(self) -> bool:
        """Release one, or let it fail; False if none waits."""
        if not self._waiting:
            return False
        self.check()
        fallible = [number for number, can in enumerate(self._can_fail) if can and self._may_fail]
        choice = self._choices.choose(len(self._waiting) + len(fallible))
        works = choice < len(self._waiting)
        number = choice if works else fallible[choice - len(self._waiting)]
        self._may_fail = self._may_fail and works
        del self._can_fail[number]
        self._waiting.pop(number)(works)
        return True


class GatedLoop(VirtualLoop):
    """A loop that releases a call when nothing else is ready; only then time passes."""

    gates: Gates

    def select(self, timeout_s: float | None) -> list[Any]:
        if timeout_s == 0 or self.gates.release():
            return []
        return super().select(timeout_s)


ENDS = ("disconnect", "disconnect_all")


class LateEngine:
    """An engine that is reached some time after the call, as over a line."""

    def __init__(self, engine: Any, gates: Gates) -> None:
        self._engine = engine
        self._gates = gates

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._engine, name)
        # Whether a failed end was counted is unknown; setting that right is part of an engine (redis/reconciler.py).
        return partial(self._later, method, name not in ENDS) if name in WRITES else method

    async def _later(
        self, method: Callable[..., Awaitable[Any]], can_fail: bool, *args: Any, **more: Any
    ) -> Any:
        await self._gates.passed(can_fail)
        return await method(*args, **more)


class GatedDisk(Executor):
    """The thread of a SQLite engine whose file is nowhere: each write waits, and may fail."""

    def __init__(self, gates: Gates) -> None:
        self._gates = gates

    def submit(self, work: Callable[..., Any], /, *args: Any, **more: Any) -> "Future[Any]":
        done: Future[Any] = Future()

        def write(works: bool) -> None:
            if works:
                done.set_result(work())
            else:
                done.set_exception(OSError("The disk is full."))

        self._gates.add(write, can_fail=True)
        return done

    def write(self, writes: Writes, **_more: Any) -> None:
        """Discard it: no test reads it again."""

    def close(self) -> None:
        """There is nothing to close."""


class DisklessEngine(SqliteEngine):
    """The product's SQLite engine on a `GatedDisk`."""

    def __init__(
        self, registry: Registry, clock: WorldClock, gates: Gates, new_id: Callable[[], str]
    ) -> None:
        super().__init__(Path("nowhere"), registry, clock, Lifetimes(), new_id, lambda: "e")
        self._thread: Any = GatedDisk(gates)

    def _open(self) -> list[Row]:
        self._file: Any = self._thread
        self._erasing = Erasing(self._file, self._clock)
        restore = Restore(Stored({"epoch": "e"}), self.registry, self._clock)
        self._begin(TakenState("e", restore.offset, restore.clock_offset_s), frozenset())
        return restore.left


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
            else DisklessEngine(self.registry, clock, gates, lambda: next(ids))
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
        demand(not len(self.node._local.locks), "turns are kept:", len(self.node._local.locks))

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
ENGINES = ("late", "diskless")


def play(engine: str, names: Sequence[str], is_connected: bool, choices: Choices, may_fail: bool) -> None:
    """Play calls in one way.

    Raises:
        Failure: a promise was broken.
    """
    loop = GatedLoop()
    loop.gates = Gates(choices, may_fail)

    async def run() -> None:
        await Scene(engine, loop.gates).run([CALLS[name] for name in names], is_connected)

    try:
        loop.run_until_complete(run())
        demand(not loop.faults, "a task failed:", *map(repr, loop.faults))
    except Exception as error:
        if isinstance(error, Failure):
            raise
        raise Failure(f"a call failed: {error!r}") from error
    finally:
        loop.gates.are_open = True
        loop.run_until_complete(kill_others())
        loop.close()


def every_way(engine: str, names: Sequence[str], is_connected: bool, may_fail: bool = True) -> Iterator[None]:
    """Play calls in all ways, one at each step.

    Raises:
        Failure: a promise was broken; its note says by what.
    """
    way: list[int] | None = []
    while way is not None:
        choices = Choices(way)
        try:
            play(engine, names, is_connected, choices, may_fail)
        except Failure as failure:
            failure.add_note(
                f"{engine}, {'connected' if is_connected else 'unknown'}, {names}, way {choices._taken}"
            )
            raise
        way = choices.following()
        yield


def some_ways(engine: str, names: Sequence[str], is_connected: bool, seed: int) -> None:
    """Play calls in a random way, with a failure or without."""
    chance = random.Random(seed)
    try:
        play(engine, names, is_connected, Choices((), chance), chance.random() < 0.5)
    except Failure as failure:
        failure.add_note(f"{engine}, {'connected' if is_connected else 'unknown'}, {names}, seed {seed}")
        raise


def ways(engine: str, names: Sequence[str], is_connected: bool, most: int = 100_000) -> int:
    """Play calls in all ways, up to so many, and return in how many."""
    return sum(1 for _ in islice(every_way(engine, names, is_connected), most))
