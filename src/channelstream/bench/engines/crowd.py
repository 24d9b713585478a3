"""Many clients of one or several nodes in one channel: most in a process that reads cheaply, a few that check messages."""

import asyncio
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import msgspec

from channelstream.bench.crew import Crew, crew_of
from channelstream.bench.engines.sink import Order
from channelstream.bench.histogram import Histogram
from channelstream.bench.load import BenchFailed, Load
from channelstream.bench.measure import Target
from channelstream.bench.orders import Result
from channelstream.bench.processes import cpu_s
from channelstream.bench.programs import start_program
from channelstream.bench.publishing import Publishing
from channelstream.bench.worker import channel_name

CHECKING = 20
"""Clients of each node that check messages and latency. They are registered last, so they are written to last."""
PUBLISHING, CLIENTS = "publishers", "clients"
"""Names of this process and of the processes of the clients."""
QUIET_S = 10.0
"""Time without receipts after which missing messages count as lost."""
SINK = "channelstream.bench.engines.sink"


@dataclass(slots=True)
class Sink:
    """The process with most of the clients.

    Attributes:
        received: number of messages so far.
        progressed: set whenever `received` has changed.
    """

    process: Process
    clients: int
    received: int = 0
    progressed: asyncio.Event = field(default_factory=asyncio.Event)

    async def read(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            self.received = int(line)
            self.progressed.set()


@asynccontextmanager
async def sink_of(nodes: Sequence[Target], clients: int, run: str) -> AsyncIterator[Sink]:
    """Start a sink with `clients` clients in the channel of a run.

    Raises:
        BenchFailed: the clients cannot be registered or have no streams.
    """
    order = Order([node.wire for node in nodes], clients, channel_name(run, 0))
    process = await start_program(SINK, msgspec.json.encode(order).decode(), stdin=PIPE, stdout=PIPE)
    sink = Sink(process, clients)
    assert process.stdout is not None and process.stdin is not None
    try:
        if not await process.stdout.readline():
            raise BenchFailed("the clients of the sink have no streams; see the error above")
        reading = asyncio.ensure_future(sink.read())
        yield sink
    finally:
        process.stdin.close()
        await process.wait()
    await reading


@dataclass(frozen=True, slots=True)
class Delivered:
    """The delivery of some messages.

    Attributes:
        deliveries: number of deliveries to all clients.
        seconds: time from the first call to the last receipt of the clients that check.
        accepted_s: time until the last call was answered.
        times: latencies at the clients that are written to last.
        cpu: CPU of each process, in seconds, by name.
    """

    deliveries: int
    seconds: float
    accepted_s: float
    times: Histogram
    cpu: dict[str, float]


async def deliver(
    nodes: Sequence[Target], sink: Sink, run: str, load: Load, processes: dict[str, Sequence[int]]
) -> Delivered:
    """Publish to all nodes in turn, and wait until all clients have all messages.

    Args:
        load: the load; its `clients` are the checking clients of each node.
        processes: the processes whose CPU is read, including that of the sink.

    Raises:
        BenchFailed: messages were lost, duplicated or out of order.
    """
    async with AsyncExitStack() as stack:
        crews = [await stack.enter_async_context(crew_of(node.wire, load, run)) for node in nodes]
        for crew in crews:
            await crew.register(0, load.clients)
            await crew.attach()
            crew.ticked = sink.progressed
        return await _deliver(nodes, crews, sink, run, load, processes)


async def _deliver(
    nodes: Sequence[Target],
    crews: Sequence[Crew],
    sink: Sink,
    run: str,
    load: Load,
    processes: dict[str, Sequence[int]],
) -> Delivered:
    clients = sink.clients + load.clients * len(crews)
    publishing = Publishing(msgspec.structs.replace(load, clients=clients), [channel_name(run, 0)])
    publishers = [await node.publisher(node.wire) for node in nodes for _ in range(load.publishers)]
    before, earlier = _cpu(processes), sink.received
    start_ns = time.monotonic_ns()
    await publishing.run(
        publishers,
        lambda: sink.received - earlier + sum(sum(crew.received) for crew in crews),
        sink.progressed,
    )
    accepted_s = (time.monotonic_ns() - start_ns) / 1e9
    sent = [(*source, count) for source, count in publishing.sent.items()]
    results = [result for crew in crews for result in await crew.finish(sent)]
    check(results)
    await until_all(sink, earlier + publishing.messages * sink.clients)
    cpu = {name: used - before[name] for name, used in _cpu(processes).items()}
    cpu[CLIENTS] += sum(result.cpu_s for result in results)
    for publisher in publishers:
        publisher.close()
    times = Histogram()
    for result in results:
        times.merge(Histogram(result.counts, result.max_ns))
    seconds = (max(result.last_ns for result in results) - start_ns) / 1e9
    return Delivered(publishing.messages * clients, seconds, accepted_s, times, cpu)


def _cpu(processes: dict[str, Sequence[int]]) -> dict[str, float]:
    """Return the CPU of processes and their children, and of this process alone, in seconds."""
    used = {name: sum(map(cpu_s, pids)) for name, pids in processes.items()}
    return used | {PUBLISHING: time.process_time()}


async def until_all(sink: Sink, wanted: int) -> None:
    """Wait until the clients of the sink have received `wanted` messages.

    Raises:
        BenchFailed: they receive fewer or more.
    """
    while sink.received < wanted:
        sink.progressed.clear()
        try:
            async with asyncio.timeout(QUIET_S):
                await sink.progressed.wait()
        except TimeoutError:
            missing = wanted - sink.received
            raise BenchFailed(f"the clients of the sink did not receive {missing:,} messages") from None
    if sink.received > wanted:
        raise BenchFailed(f"the clients of the sink received {sink.received - wanted:,} messages twice")


def check(results: Sequence[Result]) -> None:
    """Check the results of the checking clients.

    Raises:
        BenchFailed: messages were lost, duplicated or out of order, or streams ended.
    """
    for result in results:
        if result.lost or result.faults or result.closed:
            raise BenchFailed(
                f"messages were lost, duplicated or out of order: {result.faults}, lost {result.lost}, {result.closed}"
            )
