"""Measures what the metrics cost: `python -m tests.integrations.metrics_cost`.

Two servers have the same clients on WebSockets, one of them without the counters of the metrics. Both are sent the same
messages, in turn, and the processor time of a delivery is compared in each round: what else the machine does meanwhile
slows both. The clocks are those of the scheduler, which count nanoseconds.
"""

import argparse
import sys
from asyncio import timeout
from collections.abc import Sequence
from contextlib import AsyncExitStack
from math import expm1, log, sqrt
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import uvloop
from tests.waiting import PATIENCE_S

from channelstream import cli, server
from channelstream.bench.crew import Crew, crew_of
from channelstream.bench.load import Load
from channelstream.bench.measure import CONNECT_AT_ONCE, Target
from channelstream.bench.processes import family, use_all_descriptors
from channelstream.bench.publishing import Publishing, open_publisher
from channelstream.bench.servers import started
from channelstream.bench.worker import channel_name
from channelstream.integrations.metrics.meter import EngineCalls, Meter

WITH, WITHOUT = "with", "without"
MODULES = {WITH: ["channelstream", "-p", "0"], WITHOUT: [__spec__.name, WITHOUT, "-p", "0"]}
FLAT_OUT, SINGLE = "as fast as possible", "200 a second"


class NoMeter(Meter):
    """Counts nothing."""

    def consume(self, signals: Any) -> None: ...
    def written(self, latency_s: float) -> None: ...
    def answered(self, route: str, status: int) -> None: ...


def serve_without(argv: Sequence[str]) -> int:
    """Run the server with nothing that counts for the metrics."""
    server.Meter = NoMeter  # type: ignore[misc]
    server.CountedAuth = lambda auth, _: auth  # type: ignore[assignment, misc]
    EngineCalls.measured = lambda _, engine: engine  # type: ignore[method-assign]
    return cli.main(argv)


class Side:
    """One of the servers, with its clients."""

    def __init__(self, target: Target, crew: Crew, load: Load, run: str) -> None:
        self._target, self._crew, self._load = target, crew, load
        self._channels = [channel_name(run, 0)]

    async def connect(self) -> None:
        for first in range(0, self._load.clients, CONNECT_AT_ONCE):
            await self._crew.register(first, min(CONNECT_AT_ONCE, self._load.clients - first))
            await self._crew.attach()
        await self.lap()

    async def lap(self) -> float:
        """Publish all messages, and return the server's processor time for each delivery, in µs."""
        publishers = [await open_publisher(self._target.wire) for _ in range(self._load.publishers)]
        received, cpu_s = sum(self._crew.received), self._cpu_s()
        publishing = Publishing(self._load, self._channels)
        await publishing.run(publishers, lambda: sum(self._crew.received) - received, self._crew.ticked)
        deliveries = publishing.messages * self._load.clients
        try:
            async with timeout(PATIENCE_S):
                while sum(self._crew.received) - received < deliveries:
                    self._crew.ticked.clear()
                    await self._crew.ticked.wait()
        except TimeoutError:
            got = sum(self._crew.received) - received
            raise SystemExit(f"{got:,} of {deliveries:,} deliveries were received") from None
        for publisher in publishers:
            publisher.close()
        return (self._cpu_s() - cpu_s) / deliveries * 1e6

    def _cpu_s(self) -> float:
        assert self._target.pid is not None
        tasks = [task for pid in family(self._target.pid) for task in Path(f"/proc/{pid}/task").iterdir()]
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


async def measure(load: Load, rounds: int) -> list[tuple[float, float]]:
    """Return the processor time of a delivery in each round, with and without."""
    async with AsyncExitStack() as stack:
        sides = []
        for name, module in MODULES.items():
            target = await stack.enter_async_context(started(name, module))
            crew = await stack.enter_async_context(crew_of(target.wire, load, name))
            sides.append(Side(target, crew, load, name))
            await sides[-1].connect()
        counted, plain = sides
        found = []
        for number in range(rounds):
            # Each begins as often as the other.
            order = (counted, plain) if number % 2 else (plain, counted)
            laps = {side: await side.lap() for side in order}
            found.append((laps[counted], laps[plain]))
        return found


def fastest(laps: Sequence[float]) -> float:
    """Return the mean of the fastest quarter: what a lap costs where nothing else disturbs it."""
    return mean(sorted(laps)[: max(1, len(laps) // 4)])


def row(label: str, pairs: Sequence[tuple[float, float]]) -> str:
    """Return the fastest laps, and the mean ratio of the rounds with twice its standard error."""
    ratios = [log(counted / plain) for counted, plain in pairs]
    middle, error = mean(ratios), 2 * stdev(ratios) / sqrt(len(ratios))
    counted, plain = (fastest(each) for each in zip(*pairs, strict=True))
    return (
        f"{label:20}{counted:7.3f} µs a delivery with, {plain:7.3f} µs without: {100 * (counted / plain - 1):+.1f} %;"
        f" all {len(pairs)} rounds: {100 * expm1(middle):+.1f} %, ± {100 * error:.1f} %"
    )


def main() -> int:
    if sys.argv[1:2] == [WITHOUT]:
        return serve_without(sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__, prog=f"python -m {__spec__.name}")
    parser.add_argument("--rounds", type=int, default=80)
    parser.add_argument("--clients", type=int, default=1000)
    arguments = parser.parse_args()
    use_all_descriptors()
    loads = {
        FLAT_OUT: Load(clients=arguments.clients, messages=160),
        SINGLE: Load(clients=arguments.clients, messages=80, rate_per_s=200, publishers=1),
    }
    for label, load in loads.items():
        print(row(label, uvloop.run(measure(load, arguments.rounds))), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
