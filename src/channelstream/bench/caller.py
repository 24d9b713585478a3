"""A process that calls nodes on a schedule: `python -m channelstream.bench.caller`.

It has no clients, so its own event loop delays no call. It reads its order from stdin, and answers each further line with
the calls since the one before.
"""

import asyncio
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec
import uvloop
from msgspec import Struct

from channelstream.bench.histogram import Histogram
from channelstream.bench.load import BenchFailed
from channelstream.bench.programs import start_program
from channelstream.bench.publishing import open_publisher
from channelstream.bench.results import Percentiles, percentiles
from channelstream.bench.wire import Wire

CHANNEL = "calls"
"""It has no subscribers."""
RATE_PER_S = 50.0
"""Calls of each node."""
PAUSE_S = 0.1
"""After a call that failed."""


class Order(Struct, frozen=True):
    """The nodes to call."""

    wires: list[Wire]
    rate_per_s: float


class Lap(Struct, frozen=True):
    """The calls since the lap before."""

    answered_ms: Percentiles
    failed: int


class Caller:
    """Calls each node with `/message`, one call at a time.

    A call that is due before the last one is answered counts from the time at which it was due.
    """

    def __init__(self, order: Order) -> None:
        self._order = order
        self._waits, self._failed = Histogram(), 0
        self._has_called = asyncio.Event()

    async def lap(self) -> Lap:
        """Return the calls so far, at least one, and count from here."""
        await self._has_called.wait()
        lap = Lap(percentiles(self._waits), self._failed)
        self._waits, self._failed = Histogram(), 0
        self._has_called.clear()
        return lap

    async def call(self, wire: Wire) -> None:
        """Call one node until cancelled, on new connections after failures."""
        while True:
            try:
                await self._call_on_schedule(wire)
            except BenchFailed:
                self._failed += 1
                self._has_called.set()
                await asyncio.sleep(PAUSE_S)

    async def _call_on_schedule(self, wire: Wire) -> None:
        publisher = await open_publisher(wire)
        due, answered = time.monotonic(), 0.0
        while True:
            await asyncio.sleep(due - time.monotonic())
            begun = due if answered > due else time.monotonic()
            await publisher.publish([(CHANNEL, b"{}")])
            answered = time.monotonic()
            self._waits.add(int((answered - begun) * 1e9))
            self._has_called.set()
            due += 1 / self._order.rate_per_s


class CallerProcess:
    """The process, as seen by the run that has started it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def lap(self) -> Lap:
        """Return the calls since the lap before.

        Raises:
            BenchFailed: the process has ended.
        """
        return await self.ask(b"")

    async def ask(self, line: bytes) -> Lap:
        assert self._process.stdin is not None  # noqa: S101 - it was started with pipes
        assert self._process.stdout is not None  # noqa: S101 - likewise
        self._process.stdin.write(line + b"\n")
        answer = await self._process.stdout.readline()
        if not answer:
            raise BenchFailed("the process of the calls has ended; see its output above")
        return msgspec.json.decode(answer, type=Lap)


@asynccontextmanager
async def calling(wires: Sequence[Wire], rate_per_s: float = RATE_PER_S) -> AsyncIterator[CallerProcess]:
    """Call these nodes, each so many times a second, from a process of its own."""
    process = await start_program("channelstream.bench.caller", stdin=PIPE, stdout=PIPE)
    try:
        caller = CallerProcess(process)
        await caller.ask(msgspec.json.encode(Order(list(wires), rate_per_s)))
        yield caller
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def work() -> None:
    """Call until stdin ends."""
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    order = msgspec.json.decode(await lines.readline(), type=Order)
    caller = Caller(order)
    async with asyncio.TaskGroup() as tasks:
        calls = [tasks.create_task(caller.call(wire)) for wire in order.wires]
        write(await caller.lap())
        while await lines.readline():
            write(await caller.lap())
        for each in calls:
            each.cancel()


def write(lap: Lap) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(lap) + b"\n")
    sys.stdout.buffer.flush()


def main() -> None:
    uvloop.run(work())


if __name__ == "__main__":
    main()
