"""The server's side of a simulation: the real node over an engine that answers when the seed lets it."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

from tests.simulation.books import BookedEngine, BookedHub, BookedRegistry
from tests.simulation.failure import Failure
from tests.simulation.loop import turns
from tests.simulation.truth import Truth

from channelstream import slices
from channelstream.apps.app import App, Apps
from channelstream.core.entry import Entry
from channelstream.core.policy import Policy
from channelstream.core.registry_limits import Lifetimes, RegistryLimits
from channelstream.errors import Unavailable
from channelstream.housekeeping import Housekeeping
from channelstream.pacing import FlushPacer
from channelstream.service import Node, Services
from channelstream.service.node import NodeLimits
from channelstream.transports.admission import Admission
from channelstream.transports.settings import StreamSettings
from channelstream.transports.streams import Streams
from channelstream.wire.protocols import PROTOCOLS

READS = {"head", "replay"}
WRITES = {
    *("publish", "connect", "disconnect", "disconnect_all", "join", "leave", "configure", "update_user"),
    *("channels", "channels_at", "users", "members", "collect"),
}
"""Calls that reach an engine in the order they were made, as over one line to a database."""
AT_ONCE = {"nothing_after", "publish_at_once", "connect_at_once"}
"""Calls that answer only where none takes turns."""
FALLIBLE = WRITES - {"disconnect", "disconnect_all", "collect", "channels", "channels_at", "users", "members"}
"""Calls that may be refused, and then have done nothing."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The sizes of one simulation, most of them so small that everything overflows; see `choose`."""

    log_events: int
    log_age_s: float
    log_bytes: int
    outbox_bytes: int
    chunk: int
    piece_bytes: int
    held: int
    slice: int
    batch_size: int
    turn_s: float
    flush_s: float
    wavers: bool
    overlaps: bool
    fails: bool
    pauses_late: bool
    lifetime_s: float

    @classmethod
    def choose(cls, chance: random.Random) -> "Bounds":
        aside = random.Random()  # So that the seeds that are kept draw the same worlds as before.
        aside.setstate(chance.getstate())
        return cls(
            batch_size=aside.choice((1, 1600, 4000, 262_144)),
            overlaps=aside.random() < 0.5,
            log_events=chance.choice((4, 20, 1000)),
            log_age_s=chance.choice((20.0, 600.0)),
            log_bytes=chance.choice((20_000, 10_000_000)),
            outbox_bytes=chance.choice((100, 700, 4000, 65_536)),
            chunk=chance.choice((1, 3, 256)),
            piece_bytes=chance.choice((1, 600, 65_536)),
            held=chance.choice((1, 4, 1000)),
            slice=chance.choice((1, 2, 2000)),
            turn_s=chance.choice((-1.0, slices.TURN_S)),
            flush_s=chance.choice((0.0, 0.01)),
            wavers=chance.random() < 0.7,
            fails=chance.random() < 0.3,
            pauses_late=chance.random() < 0.5,
            lifetime_s=chance.choice((30.0, 86_400.0)),
        )


class WorldClock:
    """`engines.base.Clock` on the loop's time; the wall jumps where a step says so."""

    def __init__(self) -> None:
        self.offset_s = 1_700_000_000.0

    def wall(self) -> float:
        return self.steady() + self.offset_s

    def steady(self) -> float:
        return asyncio.get_running_loop().time()


class Wavering:
    """An engine that answers some turns of the loop later, so that races can occur.

    Its writes begin in order. If they overlap, one may begin while another that takes several turns is under way, as in
    an engine of this process.
    """

    def __init__(self, engine: Any, chance: random.Random | None, overlaps: bool, fails: bool) -> None:
        self._engine = engine
        self._chance = chance
        self._overlaps = overlaps
        self._fails = fails
        self._line = asyncio.Lock()
        self.pending = 0
        """Calls under way."""

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._engine, name)
        if name in AT_ONCE and self._chance is not None:
            return lambda *_, **__: None  # What is answered later meets the races, and may fail.
        if name not in READS | WRITES:
            return method
        if name in FALLIBLE:
            method = self._failing(method)
        return self._counted(self._later(method, self._line if name in WRITES else None))

    def _failing(self, method: Callable[..., Any]) -> Callable[..., Any]:
        async def call(*args: Any, **more: Any) -> Any:
            if self._fails and self._chance is not None and self._chance.random() < 0.05:
                raise Unavailable("Not now.")
            return await method(*args, **more)

        return call

    def _counted(self, method: Callable[..., Any]) -> Callable[..., Any]:
        async def call(*args: Any, **more: Any) -> Any:
            self.pending += 1
            try:
                return await method(*args, **more)
            finally:
                self.pending -= 1

        return call

    def _later(self, method: Callable[..., Any], line: asyncio.Lock | None) -> Callable[..., Any]:
        async def call(*args: Any, **more: Any) -> Any:
            if line is None:
                await self._wait()
                answer = await method(*args, **more)
            elif self._overlaps:
                async with line:
                    await self._wait()
                answer = await method(*args, **more)
            else:
                async with line:
                    await self._wait()
                    answer = await method(*args, **more)
            await self._wait()
            return answer

        return call

    async def _wait(self) -> None:
        if self._chance is not None:
            await turns(self._chance.choice((0, 0, 0, 1, 2, 4)))


class Tap:
    """The engine's receiver: accepted events are known to the truth before any client is sent them."""

    def __init__(self, node: Node, truth: Truth) -> None:
        self._node = node
        self._truth = truth

    def __getattr__(self, name: str) -> Any:
        return getattr(self._node, name)

    def deliver(self, entry: Entry) -> None:
        self._truth.accept(entry)
        self._node.deliver(entry)


class World:
    """One run of the server, from start to restart.

    Attributes:
        passers_by: users to whom nobody comes back.
    """

    passers_by: frozenset[str] = frozenset()

    def __init__(self, number: int, bounds: Bounds, clock: WorldClock, chance: random.Random) -> None:
        ids = (f"{number:08x}-0000-4000-8000-{each:012x}" for each in count())
        self.new_id = lambda: next(ids)
        limits = RegistryLimits(bounds.log_bytes, bounds.log_events, bounds.log_age_s, 6, 15.0)
        self.registry = BookedRegistry(limits, self.new_id, self.passers_by)
        self.registry.lifetime_s = bounds.lifetime_s
        self._bounds = bounds
        self._number, self._lifetimes = number, Lifetimes(bounds.lifetime_s, bounds.lifetime_s)
        self.memory = self._make_engine(clock, chance)
        self.truth = Truth(f"e{number}", self.registry)
        self.failures: list[Failure] = []
        self.registry.failures = self.failures
        self._engine = Wavering(self.memory, chance if bounds.wavers else None, bounds.overlaps, bounds.fails)
        engine: Any = self._engine
        loop = asyncio.get_running_loop()
        self._flushing_s, self._flush_s = 0.0, bounds.flush_s
        pacer = FlushPacer(
            self._flush, lambda: self.hub.waiting_events, lambda: loop.time() + self._flushing_s
        )
        self.hub = self.memory.hub = BookedHub(PROTOCOLS.formats, pacer.request_flush, pacer.end_pause)
        self.node = Node(engine, self.hub, clock, self.new_id, NodeLimits())
        settings = StreamSettings(
            outbox_bytes=bounds.outbox_bytes, heartbeat_interval_s=2.0, detach_grace_s=6.0
        )
        self.streams = Streams(Services(Apps(App()), self.node), settings, Policy())
        self.admission = Admission(self.streams, self.streams.services.default)
        self.housekeeping = Housekeeping(self.node)

    def _make_engine(self, clock: WorldClock, _chance: random.Random) -> Any:
        return BookedEngine(self.registry, clock, f"e{self._number}", self._lifetimes)

    @property
    def offset(self) -> int:
        """The number of the last accepted event."""
        return self.memory.position.offsets[0]

    def _flush(self) -> bool:
        """Flush, which takes some time by the pacer's clock."""
        self._flushing_s += self._flush_s
        return self.hub.flush()

    @property
    def rests(self) -> bool:
        """Whether no call is under way and nothing waits to be written."""
        return not (self._engine.pending or len(self.node.local.locks) or self.hub.rounds.is_due)

    async def start(self) -> None:
        receiver: Any = Tap(self.node, self.truth)
        await self.memory.start(receiver)
        self.hub.offsets = (self.offset,)
        self.streams.heartbeat.start()
        self.housekeeping.start()

    async def stop(self) -> None:
        """End as a killed process does."""
        self.streams.heartbeat.stop()
        await self.housekeeping.stop()
