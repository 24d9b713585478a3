"""Measures what clients and publishers notice while their server is upgraded, several times under load.

The upgrades are made by `channelstream upgrade`, as an operator makes them. A stream that ends does not come back, so it is
a fault, and what it misses is lost.
"""

import asyncio
import re
import time
import uuid
from asyncio.subprocess import PIPE, STDOUT
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from tempfile import TemporaryDirectory
from typing import get_args

from msgspec import structs

from channelstream.bench.crew import Crew, check_descriptors, crew_of
from channelstream.bench.histogram import Histogram
from channelstream.bench.load import BenchFailed, Load, Transport, failing_as_one
from channelstream.bench.measure import CONNECT_AT_ONCE, SAMPLE_S, Stopwatch, delivery_of
from channelstream.bench.processes import cpu_s_of_each, memory_kb, use_all_descriptors
from channelstream.bench.programs import start_program
from channelstream.bench.progress import Progress
from channelstream.bench.publishing import Addressed, Publisher, Publishing, open_publisher
from channelstream.bench.redis_process import redis_process
from channelstream.bench.results import Measured, Upgrade, Upgraded, percentiles, rate
from channelstream.bench.servers import own_environ, product
from channelstream.bench.wire import Wire
from channelstream.bench.worker import channel_name

UPGRADES = 10
BETWEEN_S = 1.0
"""Time before each upgrade, and after the last."""
QUIET_S = 30.0
"""Time without receipts at the end after which missing messages count as lost. Long: the machine may be busy."""
OTHERS = 10
"""Clients of the load for one client of each other transport."""
_SERVES = re.compile(r"process (\d+) serves")
_HANDED_OVER = re.compile(r"^handed over: (.*)$", re.MULTILINE)
_COUNT = re.compile(r"([\d,]+) ([A-Za-z ]+?)s?(?:,|$)")


@dataclass
class Calls:
    """The calls of all publishers.

    Attributes:
        waits: of calls that begin now.
        between: of those that begin while no upgrade runs.
        failed: number of failures, by reason.
    """

    between: Histogram = field(default_factory=Histogram)
    failed: Counter[str] = field(default_factory=Counter)
    waits: Histogram = field(init=False)

    def __post_init__(self) -> None:
        self.waits = self.between


class TimedPublisher:
    """Publishes over one keep-alive connection, which is opened again after a failure."""

    def __init__(self, wire: Wire, publisher: Publisher, calls: Calls) -> None:
        self._wire = wire
        self._publisher = publisher
        self._calls = calls

    async def publish(self, messages: Sequence[Addressed]) -> None:
        """Publish, and record the time. A call that fails counts as a failure, and its messages as sent.

        Raises:
            BenchFailed: the server does not accept connections any more.
        """
        waits, begun_ns = self._calls.waits, time.monotonic_ns()
        try:
            await self._publisher.publish(messages)
        except BenchFailed as error:
            self._calls.failed[str(error)] += 1
            self._publisher.close()
            self._publisher = await open_publisher(self._wire)
        waits.add(time.monotonic_ns() - begun_ns)

    def close(self) -> None:
        self._publisher.close()


@dataclass
class Succession:
    """The processes of a server, of which each takes over from the one before.

    Attributes:
        pid: of the process that serves.
    """

    pid: int
    _used_s: dict[int, float] = field(default_factory=dict)

    def cpu_s(self) -> float:
        """Return the CPU time of all of them. Of one that has ended it is what it had used at the last call."""
        for pid, used_s in cpu_s_of_each(self.pid).items():
            self._used_s[pid] = max(used_s, self._used_s.get(pid, 0.0))
        return sum(self._used_s.values())


def loads_of(load: Load) -> list[Load]:
    """Return the load with all clients of its transport, and some of each other."""
    few = max(1, load.clients // OTHERS)
    others = [each for each in get_args(Transport) if each != load.transport]
    return [load, *(structs.replace(load, clients=few, transport=each, deflate=False) for each in others)]


def handed_over(output: str) -> dict[str, int]:
    """Return the counts in the output of an upgrade, by the names that it has for them."""
    found = _HANDED_OVER.search(output)
    counts = _COUNT.findall(found[1]) if found else []
    return {noun: int(digits.replace(",", "")) for digits, noun in counts}


@dataclass
class Trial:
    """The upgrades of one server, and its load."""

    run: str
    wire: Wire
    progress: Progress
    succession: Succession
    crews: Sequence[Crew]
    calls: Calls = field(default_factory=Calls)
    samples: list[tuple[float, int]] = field(default_factory=list)
    _done: list[tuple[int, str, Histogram]] = field(default_factory=list)

    async def upgrade(self, times: int, between_s: float) -> None:
        for number in range(times):
            self.progress.show("upgrading", number, times)
            await asyncio.sleep(between_s)
            self.calls.waits = waits = Histogram()
            code, output = await upgrade_at(self.wire)
            self.calls.waits = self.calls.between
            self._done.append((code, output, waits))
            if found := _SERVES.search(output):
                self.succession.pid = int(found[1])
        await asyncio.sleep(between_s)

    async def sample(self) -> None:
        """Record the received messages, and the CPU of processes before they end, periodically."""
        start = time.monotonic()
        while True:
            self.samples.append((time.monotonic() - start, sum(sum(crew.received) for crew in self.crews)))
            self.succession.cpu_s()
            await asyncio.sleep(SAMPLE_S)

    def upgrades(self) -> list[Upgrade]:
        """Return the results, once all calls are answered."""
        return [
            Upgrade(
                exit_code=code,
                output=output.splitlines(),
                handed_over=handed_over(output),
                publish_ms=percentiles(waits),
            )
            for code, output, waits in self._done
        ]


async def upgrade_at(wire: Wire) -> tuple[int, str]:
    """Upgrade the server at an address. Return the exit code of the command, and what it printed."""
    command = ("channelstream", "upgrade", "--host", wire.host, "--port", str(wire.port))
    process = await start_program(*command, stdout=PIPE, stderr=STDOUT, environ=own_environ())
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    return await process.wait(), output.decode(errors="replace").strip()


async def upgrade(
    load: Load,
    flags: Sequence[str],
    progress: Progress,
    upgrades: int = UPGRADES,
    between_s: float = BETWEEN_S,
) -> Measured:
    """Start a server, connect clients of all transports, publish at a steady rate, and upgrade the server meanwhile.

    Args:
        load: its clients have its transport; there are some of each other one beside them. Publishing ends after the
            upgrades.
        flags: further options of the server.
        upgrades: how many.
        between_s: time before each upgrade, and after the last.

    Raises:
        BenchFailed: the server does not start, refuses a client, or does not accept connections any more.
    """
    if not load.rate_per_s:
        raise BenchFailed("upgrades are measured at a steady rate: give one above 0")
    loads = loads_of(load)
    whole = structs.replace(load, clients=sum(each.clients for each in loads), messages=0, duration_s=0)
    check_descriptors(whole)
    use_all_descriptors()
    with failing_as_one():
        async with AsyncExitStack() as stack:
            trial = await _begun(stack, loads, flags, progress)
            before_kb = memory_kb(trial.succession.pid)
            measured = await _published(trial, whole, upgrades, between_s)
            upgraded = Upgraded(
                clients={each.transport: each.clients for each in loads},
                upgrades=trial.upgrades(),
                between_ms=percentiles(trial.calls.between),
                failed=dict(trial.calls.failed),
                before_kb=before_kb,
                after_kb=memory_kb(trial.succession.pid),
            )
    return structs.replace(measured, upgraded=upgraded)


async def upgrade_sqlite(load: Load, flags: Sequence[str], progress: Progress) -> Measured:
    """Do the same with the SQLite engine."""
    with TemporaryDirectory() as folder:
        return await upgrade(load, ("--engine", f"sqlite:///{folder}/state.db", *flags), progress)


async def upgrade_redis(load: Load, flags: Sequence[str], progress: Progress) -> Measured:
    """Do the same with the Redis engine."""
    async with redis_process() as redis:
        return await upgrade(load, ("--engine", redis.address, *flags), progress)


async def _begun(
    stack: AsyncExitStack, loads: Sequence[Load], flags: Sequence[str], progress: Progress
) -> Trial:
    """Start a server and connect all clients; the stack ends both."""
    server = await stack.enter_async_context(product(*flags))
    assert server.pid is not None  # noqa: S101 - for the types: it is a process of ours
    run = f"bench-{uuid.uuid4().hex[:12]}"
    crews = [await stack.enter_async_context(crew_of(server.wire, each, run)) for each in loads]
    await _connect(crews, loads, progress)
    return Trial(run, server.wire, progress, Succession(server.pid), crews)


async def _connect(crews: Sequence[Crew], loads: Sequence[Load], progress: Progress) -> None:
    """Register and attach all clients, in groups; their users have numbers one after the other."""
    begin = 0
    for crew, load in zip(crews, loads, strict=True):
        end = begin + load.clients
        for first in range(begin, end, CONNECT_AT_ONCE):
            progress.show(f"connecting {load.transport}", first - begin, load.clients)
            await crew.register(first, min(CONNECT_AT_ONCE, end - first))
            await crew.attach()
        begin = end


async def _published(trial: Trial, load: Load, upgrades: int, between_s: float) -> Measured:
    """Publish while the server is upgraded, and wait until all messages are received."""
    publishing = Publishing(load, [channel_name(trial.run, number) for number in range(load.channels)])
    publishers = [
        TimedPublisher(trial.wire, await open_publisher(trial.wire), trial.calls)
        for _ in range(load.publishers)
    ]
    whole, posting = Stopwatch(trial.succession), Stopwatch(trial.succession)
    start_ns = time.monotonic_ns()
    sampling = asyncio.ensure_future(trial.sample())
    try:
        with whole:
            with posting:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(publishing.run(publishers, lambda: 0, asyncio.Event()))
                    await trial.upgrade(upgrades, between_s)
                    publishing.stop()
            trial.progress.show("receiving")
            sent = [(*source, count) for source, count in publishing.sent.items()]
            results = [result for crew in trial.crews for result in await crew.finish(sent, QUIET_S)]
    finally:
        sampling.cancel()
        for publisher in publishers:
            publisher.close()
    return Measured(
        publish=rate(publishing.messages, posting.seconds, None),
        requests=publishing.requests,
        delivery=delivery_of(results, whole, start_ns, publishing.messages * load.clients, trial.samples),
    )
