"""Samples of a node's figures, taken by a periodic task and kept by the history.

The hot path only increments counters (`Hub.deliveries`, `Hub.written`, `Node.published`, `Node.stalls`, and those of
`Meter`). A sample has their increase.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, Protocol

from channelstream import logs
from channelstream.admin.busiest import Rates
from channelstream.admin.changed_options import changed_options
from channelstream.admin.endings import counts_by_key
from channelstream.admin.engine_watch import EngineWatch
from channelstream.admin.history import HOUR, History
from channelstream.admin.open_descriptors import descriptor_limit, open_descriptors
from channelstream.admin.sample import Sample
from channelstream.admin.taken import TakenBytes
from channelstream.config import Settings
from channelstream.core.endings import Group
from channelstream.core.node_status import NodeStatus
from channelstream.errors import Unavailable
from channelstream.http.callers import Callers
from channelstream.integrations.metrics.meter import Meter
from channelstream.memory import ResidentMemory
from channelstream.service import Node

SAMPLE_S = HOUR.interval_s
"""Interval of the samples, in seconds. They begin at its multiples, at every node."""
NEARLY = 0.1
"""How far the time between two samples may be from the interval, as a part of it, to count as a whole one."""


class Loop(Protocol):
    """Figures of the event loop; `watchdog.Watchdog` implements it."""

    def take_delay_s(self) -> float:
        """Return the longest delay of a timer since the last call."""

    def figures(self) -> dict[str, Any]:
        """Return the figures of slow turns."""

    def rows(self) -> list[dict[str, Any]]:
        """Describe the latest slow turns, newest first."""


class _Counters(NamedTuple):
    """What has happened since the start, up to a moment."""

    steady_s: float
    deliveries: int
    published: int
    stalls: int
    cpu_s: float
    refused: int
    latency: Sequence[int]
    written: int
    taken_bytes: int
    replayed: int
    lost: int
    dropped_bytes: int
    endings: Mapping[Group, int]
    engine_latency: Sequence[int]
    engine_failed: int
    engine_away_s: float


class Sampler:
    """Takes the samples.

    Attributes:
        loop: source of the delay.
        meter: counters of the process.
        history: keeps the samples.
        taken: what the sockets of clients have taken.
        engine: whether the engine is in reach.
        callers: count who calls.
        rates: what of the last minute is counted by name.
        count: number of samples since the start.
        stopped: set when the server stops, so that watching pages end.
    """

    def __init__(
        self, node: Node, loop: Loop, meter: Meter, sample_s: float = SAMPLE_S, label: str = "this node"
    ) -> None:
        """Create one that has not begun.

        Args:
            sample_s: interval of the samples.
            label: of this node, for marks.
        """
        self.loop = loop
        self.history = History(node.time_series, node.clock.wall, node.clock.steady)
        self.taken = TakenBytes(node)
        self.engine = EngineWatch(node, self.history.mark, label)
        self.callers = Callers()
        self.rates = Rates(node, self.callers)
        self.count = 0
        self.stopped = asyncio.Event()
        self._node = node
        self.meter = meter
        self._sample_s = sample_s
        self._memory = ResidentMemory()
        self._tasks: Sequence[asyncio.Task[None]] = ()
        self._before = self._counters()

    def start(self, kind: str = "start", text: str = "") -> None:
        """Begin, with a mark in the history (`history.Mark`)."""
        self._before = self._counters()
        self.history.mark(kind, text)
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._run()), loop.create_task(self.engine.run())]

    async def stop(self, kind: str = "", text: str = "") -> None:
        """End, with a mark if the kind is not empty, and let the watchers end."""
        self.stopped.set()
        if not self._tasks:
            return
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if kind:
            self.history.mark(kind, text)
        await self.save()

    async def save(self) -> None:
        """Write all that was measured so far: this process ends, or another one may take over."""
        self.history.add(self.take(self.loop.take_delay_s()))
        await self.history.flush()

    def node_died(self, node: NodeStatus, ended: int | None) -> None:
        """Mark the end of another node, with how many of its connections have ended, if that is known."""
        silent_s = max(0.0, self._node.clock.wall() - node.heartbeat_s)
        had = f"it had {logs.counted(node.connections, 'connection')}"
        became = had if ended is None else f"{ended} of its connections did not come back"
        how = "was stopped" if node.was_stopped else f"was silent for {silent_s:.0f} s"
        text = f"{node.label} {how}; {became}"
        self.history.mark("node gone", text)

    async def mark_changes(self, settings: Settings) -> None:
        """Mark the options that differ from those of the last start; nothing while the engine is out of reach."""
        with suppress(Unavailable):
            wall_s = self._node.clock.wall()
            if names := await changed_options(self._node.time_series, wall_s, settings):
                self.history.mark("settings changed", ", ".join(names))

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._until_next_s())
            await self.taken.look()
            sample = self.take(self.loop.take_delay_s())
            self.history.add(sample)
            self.rates.turn(sample.seconds)

    def _until_next_s(self) -> float:
        """Return the seconds to the next begin of an interval, `NEARLY` of one at least: a timer may be early."""
        early_s = NEARLY * self._sample_s
        return self._sample_s - (self._node.clock.wall() + early_s) % self._sample_s + early_s

    def _counters(self) -> _Counters:
        node, meter = self._node, self.meter
        return _Counters(
            node.clock.steady(),
            node.hub.deliveries,
            node.published,
            node.stalls,
            time.process_time(),
            sum(count for (_, status), count in meter.requests.items() if status >= 400),
            tuple(meter.latency.counts),
            node.hub.written.events,
            self.taken.count,
            meter.replayed,
            meter.lost,
            self.taken.dropped,
            node.local.endings.counts.copy(),
            tuple(meter.engine.latency.counts),
            sum(meter.engine.failed.values()),
            self.engine.away_s,
        )

    def take(self, delay_s: float) -> Sample:
        """Return a sample of the time since the previous sample."""
        before, now = self._before, self._counters()
        self._before = now
        seconds = now.steady_s - before.steady_s
        self.count += 1
        return Sample(
            at_s=self._begin_s(seconds),
            connections=len(self._node.hub.connections),
            deliveries=_rate(now.deliveries - before.deliveries, seconds),
            published=_rate(now.published - before.published, seconds),
            delay_ms=round(1000 * delay_s, 1),
            stalls=now.stalls - before.stalls,
            memory_bytes=self._memory.read(),
            seconds=self._sample_s if abs(seconds / self._sample_s - 1) < NEARLY else round(seconds, 3),
            cpu=_rate(now.cpu_s - before.cpu_s, seconds, digits=3),
            refused=_rate(now.refused - before.refused, seconds, digits=3),
            latency=_increase(before.latency, now.latency),
            written=_rate(now.written - before.written, seconds),
            taken_bytes=_rate(max(0, now.taken_bytes - before.taken_bytes), seconds),
            replayed=_rate(now.replayed - before.replayed, seconds),
            lost=now.lost - before.lost,
            dropped_bytes=now.dropped_bytes - before.dropped_bytes,
            endings=counts_by_key(Counter(now.endings) - Counter(before.endings)),
            engine_latency=_increase(before.engine_latency, now.engine_latency),
            engine_failed=now.engine_failed - before.engine_failed,
            engine_away_s=round(now.engine_away_s - before.engine_away_s, 1),
            descriptors=open_descriptors(),
            descriptor_limit=descriptor_limit(),
        )

    def _begin_s(self, seconds: float) -> float:
        """Return the begin of the interval in which the middle of the last `seconds` is.

        A timer may be early or late, and the first and the last sample of a process measure a part of an interval.
        """
        middle_s = self._node.clock.wall() - seconds / 2
        return middle_s - middle_s % self._sample_s


def _increase(before: Sequence[int], now: Sequence[int]) -> list[int]:
    return [new - old for new, old in zip(now, before, strict=True)]


def _rate(count: float, seconds: float, digits: int = 1) -> float:
    return round(count / seconds, digits) if seconds else 0.0
