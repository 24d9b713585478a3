"""One run: connect the clients, idle, publish, wait for all deliveries, and read the server's figures."""

import asyncio
import time
import uuid
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Protocol

from msgspec import structs

from channelstream.bench.checker import Faults
from channelstream.bench.crew import QUIET_S, Crew, check_descriptors, crew_of
from channelstream.bench.histogram import Histogram
from channelstream.bench.load import Load, Signing, failing_as_one
from channelstream.bench.orders import Result
from channelstream.bench.probe import longest_turn_ms, probe
from channelstream.bench.processes import cpu_s, memory_kb
from channelstream.bench.progress import Progress
from channelstream.bench.publishing import OpenPublisher, Publisher, Publishing, open_publisher
from channelstream.bench.pusher import PREFIX
from channelstream.bench.results import (
    Delivery,
    Measured,
    Memory,
    Percentiles,
    Rate,
    distribution,
    percentiles,
    rate,
)
from channelstream.bench.wire import Wire
from channelstream.bench.worker import channel_name

CONNECT_AT_ONCE = 500
"""Clients registered before their streams are opened. The server forgets a connection without stream after 15 s."""
SETTLE_S = 1.0
"""Wait after the last client before memory is read, so that the server can free temporary memory."""
FEWEST_TO_WEIGH = 100
"""With fewer clients other memory of the server would hide the memory of the connections."""
SAMPLE_S = 0.05
TIMELINE_POINTS = 400


@dataclass(frozen=True, slots=True)
class Target:
    """A server to measure.

    Attributes:
        pid: its process, for CPU and memory; None means that they are not measured.
        publisher: opens a publisher for it.
        reports_turns: whether it was started for the run and reports the longest turn of its event loop.
        quiet_s: time without a delivery after which missing messages count as lost.
    """

    name: str
    wire: Wire
    pid: int | None = None
    publisher: OpenPublisher = open_publisher
    reports_turns: bool = False
    quiet_s: float = QUIET_S

    def signing(self, signing: Signing) -> "Target":
        """Return it with calls that are signed so."""
        return replace(self, wire=structs.replace(self.wire, signs_whole=signing == "signed"))

    def cpu_s(self) -> float | None:
        return None if self.pid is None else cpu_s(self.pid)

    def memory_kb(self) -> int:
        return 0 if self.pid is None else memory_kb(self.pid)


class Timed(Protocol):
    """A server whose CPU time can be read; None means that it is not measured."""

    def cpu_s(self) -> float | None: ...


@dataclass(slots=True)
class Stopwatch:
    """Measures time and the server's CPU, over several laps."""

    target: Timed
    seconds: float = 0.0
    cpu_s: float | None = None
    _start: float = 0.0
    _start_cpu_s: float | None = None

    def __enter__(self) -> None:
        self._start_cpu_s = self.target.cpu_s()
        self._start = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.monotonic() - self._start
        end = self.target.cpu_s()
        if end is not None and self._start_cpu_s is not None:
            self.cpu_s = (self.cpu_s or 0.0) + end - self._start_cpu_s

    def rate(self, count: int) -> Rate:
        return rate(count, self.seconds, self.cpu_s)


async def measure(target: Target, load: Load, progress: Progress) -> Measured:
    """Put a load on a server and return the measurements.

    Raises:
        BenchFailed: the server cannot be reached or refuses, or the machine does not allow so many clients.
    """
    check_descriptors(load)
    run = f"bench-{uuid.uuid4().hex[:12]}"
    with failing_as_one():
        async with crew_of(target.wire, load, run) as crew:
            return await Run(target, load, progress, crew, run).measured()


@dataclass(slots=True)
class Run:
    """The phases of one run."""

    target: Target
    load: Load
    progress: Progress
    crew: Crew
    name: str
    samples: list[tuple[float, int]] = field(default_factory=list)

    async def measured(self) -> Measured:
        """Measure, and finally request the longest turn of the server's event loop."""
        measured = await self._measured()
        if not self.target.reports_turns:
            return measured
        return structs.replace(measured, longest_turn_ms=await longest_turn_ms(self.target.wire))

    async def _measured(self) -> Measured:
        connect = attach = memory = stall = None
        if self.load.clients:
            connect, attach, memory = await self._connect()
        if self.load.idle_s:
            stall = await self._idle()
        if not self.load.publishes:
            return Measured(connect=connect, attach=attach, memory=memory, stall_ms=stall)
        prefix = PREFIX if self.load.pusher else ""
        names = [prefix + channel_name(self.name, n) for n in range(self.load.channels)]
        publishing = Publishing(self.load, names)
        publish, delivery = await self._publish(publishing)
        return Measured(
            connect=connect,
            attach=attach,
            memory=memory,
            stall_ms=stall,
            publish=publish,
            requests=publishing.requests,
            delivery=delivery,
        )

    async def _connect(self) -> tuple[Rate | None, Rate, Memory | None]:
        """Register and attach all clients, in groups."""
        before_kb = self.target.memory_kb()
        registering, attaching = Stopwatch(self.target), Stopwatch(self.target)
        for first in range(0, self.load.clients, CONNECT_AT_ONCE):
            count = min(CONNECT_AT_ONCE, self.load.clients - first)
            with registering:
                await self.crew.register(first, count)
            with attaching:
                await self.crew.attach()
            self.progress.show("connecting", first + count, self.load.clients)
        await asyncio.sleep(SETTLE_S)
        memory = self._memory(before_kb)
        registers = self.target.wire.secret and not self.load.pusher
        connect = registering.rate(self.load.clients) if registers else None
        return connect, attaching.rate(self.load.clients), memory

    def _memory(self, before_kb: int) -> Memory | None:
        if self.target.pid is None or self.load.clients < FEWEST_TO_WEIGH:
            return None
        after_kb = self.target.memory_kb()
        return Memory(before_kb, after_kb, round((after_kb - before_kb) / self.load.clients, 2))

    async def _idle(self) -> Percentiles:
        self.progress.show(f"idle for {self.load.idle_s:g} s")
        return percentiles(await probe(self.target.wire, self.load.idle_s))

    async def _publish(self, publishing: Publishing) -> tuple[Rate, Delivery | None]:
        """Publish all messages and wait until they are received."""
        publishers = [await self.target.publisher(self.target.wire) for _ in range(self.load.publishers)]
        sampling = asyncio.ensure_future(self._sample(publishing))
        whole, posting = Stopwatch(self.target), Stopwatch(self.target)
        start_ns = time.monotonic_ns()
        try:
            with whole:
                with posting:
                    await publishing.run(publishers, lambda: sum(self.crew.received), self.crew.ticked)
                sent = [(*source, n) for source, n in publishing.sent.items()]
                results = await self.crew.finish(sent, self.target.quiet_s)
        finally:
            sampling.cancel()
            _close(publishers)
        if not self.load.clients:
            return posting.rate(publishing.messages), None
        # The server delivers while it accepts, so the CPU for accepting alone is unknown.
        publish = rate(publishing.messages, posting.seconds, None)
        expected = publishing.messages * self.load.clients
        return publish, delivery_of(results, whole, start_ns, expected, self.samples)

    async def _sample(self, publishing: Publishing) -> None:
        """Record and show the number of received messages periodically."""
        start = time.monotonic()
        while True:
            received = sum(self.crew.received)
            self.samples.append((time.monotonic() - start, received))
            if self.load.clients:
                self.progress.show("delivering", received, self.load.messages * self.load.clients)
            else:
                self.progress.show("publishing", publishing.messages, self.load.messages)
            await asyncio.sleep(SAMPLE_S)


def delivery_of(
    results: list[Result], whole: Stopwatch, start_ns: int, expected: int, samples: list[tuple[float, int]]
) -> Delivery:
    """Return what the clients of all workers have received.

    Args:
        whole: measured the CPU; its time becomes that until the last receipt.
        expected: the number of deliveries if nothing is lost.
        samples: times in seconds, with the number of messages received so far.
    """
    whole.seconds = max(0, max(result.last_ns for result in results) - start_ns) / 1e9
    received = sum(result.received for result in results)
    faults, latency, closed = Faults(), Histogram(), dict[str, int]()
    for result in results:
        faults.add(result.faults)
        latency.merge(Histogram(result.counts, result.max_ns))
        for reason, count in result.closed.items():
            closed[reason] = closed.get(reason, 0) + count
    return Delivery(
        expected=expected,
        lost=sum(result.lost for result in results),
        duplicated=faults.duplicated,
        out_of_order=faults.out_of_order,
        position_disorder=faults.position_disorder,
        closed=closed,
        rate=whole.rate(received),
        bytes_each=round(sum(result.bytes for result in results) / max(received, 1), 1),
        latency_ms=percentiles(latency),
        distribution=distribution(latency),
        timeline=timeline(samples, whole.seconds),
        generator_load=round(max(result.cpu_s for result in results) / max(whole.seconds, 1e-9), 2),
    )


def _close(publishers: list[Publisher]) -> None:
    for publisher in publishers:
        publisher.close()


def timeline(samples: list[tuple[float, int]], end_s: float) -> list[tuple[float, float]]:
    """Return deliveries a second between samples, at most TIMELINE_POINTS of them.

    Args:
        samples: times in seconds, with the number of messages received so far.
        end_s: later samples are left out.
    """
    kept = [sample for sample in samples if sample[0] <= end_s + SAMPLE_S]
    kept = kept[:: len(kept) // TIMELINE_POINTS + 1]
    return [
        (round(after, 3), round((more - less) / (after - before), 1))
        for (before, less), (after, more) in pairwise(kept)
        if after > before
    ]
