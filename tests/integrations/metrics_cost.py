"""Measures what the metrics cost: `python -m tests.integrations.metrics_cost`.

Two servers have the same clients on WebSockets, one of them without the counters of the metrics. Both are sent the same
messages, in turn, and valgrind counts the instructions that each executes for a delivery. Those of the kernel are not
counted, so the share of the metrics is the largest that it can be. Processor time decides nothing here: it differs by
more than the metrics cost from one second to the next. It takes some minutes, as valgrind makes a server 50 times as slow.
"""

import argparse
import os
import shutil
import subprocess
import sys
from asyncio import to_thread
from collections.abc import Sequence
from contextlib import AsyncExitStack
from math import sqrt
from pathlib import Path
from statistics import mean, stdev
from tempfile import TemporaryDirectory
from typing import Any

import uvloop
from msgspec.structs import replace

from channelstream import app_tables, cli, server
from channelstream.bench import servers
from channelstream.bench.crew import Crew, crew_of
from channelstream.bench.load import Load
from channelstream.bench.measure import CONNECT_AT_ONCE, Target
from channelstream.bench.processes import use_all_descriptors
from channelstream.bench.publishing import Publisher, Publishing, open_publisher
from channelstream.bench.servers import started
from channelstream.bench.worker import channel_name
from channelstream.integrations.metrics.meter import EngineCalls, Meter

WITH, WITHOUT = "with", "without"
START_TIMEOUT_S = 600.0
LONG = ("heartbeat-interval-s", "ping-interval-s", "unattached-timeout-s", "keep-alive-s", "head-timeout-s")
QUIET = tuple(f"--{name}=3600" for name in LONG)
"""Options of a server that sends nothing but messages, and forgets no client that connects slowly."""
OUT = "METRICS_COST_OUT"
"""The variable with the beginning of the files that valgrind writes."""
LISTS = (1, 20)
"""Messages of a call, which are written to each client together."""


class NoMeter(Meter):
    """Counts nothing but the answers of calls, which the HTTP server itself counts."""

    def consume(self, signals: Any) -> None: ...
    def written(self, latency_s: float) -> None: ...


def count_nothing() -> None:
    """Take everything that counts for the metrics from the servers of this process."""
    server.Meter = NoMeter  # type: ignore[misc]
    app_tables.ReportingAuth = lambda auth, *_: auth  # type: ignore[assignment, misc]
    EngineCalls.measured = lambda _, engine: engine  # type: ignore[method-assign]


def run_counted(argv: Sequence[str]) -> None:
    """Replace this program by valgrind, which runs it again as a server."""
    tool = ("--tool=callgrind", f"--callgrind-out-file={os.environ[OUT]}.%p")
    os.execvp("valgrind", ["valgrind", "-q", *tool, sys.executable, "-m", __spec__.name, "serve", *argv])


class Side:
    """One of the servers, with its clients."""

    def __init__(self, target: Target, crew: Crew, load: Load, publisher: Publisher, run: str) -> None:
        self._target, self._crew, self._load, self._publisher = target, crew, load, publisher
        self._channels = [channel_name(run, 0)]

    async def connect(self) -> None:
        for first in range(0, self._load.clients, CONNECT_AT_ONCE):
            await self._crew.register(first, min(CONNECT_AT_ONCE, self._load.clients - first))
            await self._crew.attach()

    async def lap(self, calls: int, messages: int) -> float:
        """Make calls, each when everyone has received the one before, and return the instructions of a delivery."""
        await self._control("--zero")
        load = replace(self._load, messages=messages, items=messages)
        received = sum(self._crew.received)
        for number in range(1, calls + 1):
            await Publishing(load, self._channels).run([self._publisher], lambda: 0, self._crew.ticked)
            while sum(self._crew.received) - received < number * messages * load.clients:
                self._crew.ticked.clear()
                await self._crew.ticked.wait()
        await self._control("--dump")
        return self._dumped() / (calls * messages * load.clients)

    async def _control(self, what: str) -> None:
        command = ["callgrind_control", what, str(self._target.pid)]
        await to_thread(subprocess.run, command, check=True, capture_output=True)

    def _dumped(self) -> int:
        """Return the instructions in the last file that valgrind has written, and remove it."""
        out = Path(f"{os.environ[OUT]}.{self._target.pid}")
        [path] = out.parent.glob(f"{out.name}.*")
        lines = path.read_text().splitlines()
        path.unlink()
        return next(int(line.split()[1]) for line in reversed(lines) if line.startswith("totals:"))


async def measure(load: Load, rounds: int, calls: int) -> dict[int, list[tuple[float, float]]]:
    """Return the instructions of a delivery in each round, with and without, for each number of messages of a call."""
    async with AsyncExitStack() as stack:
        sides = []
        for name in (WITH, WITHOUT):
            target = await stack.enter_async_context(started(name, [__spec__.name, name, "-p", "0", *QUIET]))
            crew = await stack.enter_async_context(crew_of(target.wire, load, name))
            publisher = await open_publisher(target.wire)
            stack.callback(publisher.close)
            sides.append(Side(target, crew, load, publisher, name))
            await sides[-1].connect()
        counted, plain = sides
        found: dict[int, list[tuple[float, float]]] = {}
        for messages in LISTS:
            await counted.lap(1, messages)
            await plain.lap(1, messages)
            found[messages] = [
                (await counted.lap(calls, messages), await plain.lap(calls, messages)) for _ in range(rounds)
            ]
        return found


def row(messages: int, pairs: Sequence[tuple[float, float]]) -> str:
    """Return the means, and that of the differences with twice its standard error."""
    differences = [100 * (counted / plain - 1) for counted, plain in pairs]
    error = 2 * stdev(differences) / sqrt(len(differences))
    counted, plain = (mean(each) for each in zip(*pairs, strict=True))
    return (
        f"calls with {messages} message(s): {counted:,.0f} instructions a delivery with, {plain:,.0f} without:"
        f" {mean(differences):+.2f} %, ± {error:.2f} % ({len(pairs)} rounds)"
    )


def main() -> int:
    argv = sys.argv[1:]
    if argv[:1] in ([WITH], [WITHOUT]):
        run_counted(argv)
    if argv[:1] == ["serve"]:
        if argv[1] == WITHOUT:
            count_nothing()
        return cli.main(argv[2:])
    parser = argparse.ArgumentParser(description=__doc__, prog=f"python -m {__spec__.name}")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--calls", type=int, default=10, help="in each round")
    parser.add_argument("--clients", type=int, default=1000)
    arguments = parser.parse_args()
    if shutil.which("callgrind_control") is None:
        parser.error("valgrind is not on the PATH")
    use_all_descriptors()
    servers.START_TIMEOUT_S = START_TIMEOUT_S
    with TemporaryDirectory() as directory:
        os.environ[OUT] = f"{directory}/out"
        load = Load(clients=arguments.clients, publishers=1)
        found = uvloop.run(measure(load, arguments.rounds, arguments.calls))
    for messages, pairs in found.items():
        print(row(messages, pairs), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
