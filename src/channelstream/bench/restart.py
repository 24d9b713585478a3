"""Measures how long it takes until all clients are back after their server was killed and started again."""

import asyncio
import os
import random
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from tempfile import TemporaryDirectory
from threading import Event

from msgspec import structs

from channelstream.bench.crew import check_descriptors
from channelstream.bench.crowd import Crowd, crowd_at
from channelstream.bench.histogram import Histogram
from channelstream.bench.load import Load
from channelstream.bench.measure import Target
from channelstream.bench.processes import use_all_descriptors
from channelstream.bench.progress import Progress
from channelstream.bench.results import Measured, Resume, percentiles, rate
from channelstream.bench.servers import HOST, product

PROBE_S = 0.005
"""Time between two looks at whether the new server listens."""


async def restart(
    load: Load, flags: Sequence[str], progress: Progress, jitter: Callable[[], float] = random.random
) -> Measured:
    """Kill a server on SQLite that has many clients, start another one on its port, and wait until all have everything.

    Args:
        load: its number of clients.
        flags: further options of the server.
        jitter: of the waits of clients.

    Raises:
        BenchFailed: the server does not start, or the clients do not all come back.
    """
    check_descriptors(load)
    use_all_descriptors()
    with TemporaryDirectory() as folder:
        options = ("--engine", f"sqlite:///{folder}/state.db", *flags)
        return Measured(resume=await _resume(load.clients, options, progress, jitter))


async def _resume(
    clients: int, options: Sequence[str], progress: Progress, jitter: Callable[[], float]
) -> Resume:
    async with AsyncExitStack() as clients_end:
        async with product(*options) as first:
            wire = first.wire
            crowd = await clients_end.enter_async_context(crowd_at(wire, clients, progress, jitter))
            await crowd.publish()
            await crowd.all_received()
            await crowd.publish()
            crowd.shared.ends.clear()
            killed_s = time.monotonic()
            assert first.pid is not None  # noqa: S101 - for the types: it is a process of ours
            os.kill(first.pid, signal.SIGKILL)
        async with (
            _first_listening(wire.port) as listening,
            product("-p", str(wire.port), *options, secret=wire.secret) as second,
        ):
            return await _recovered(crowd, second, killed_s, await listening)


@asynccontextmanager
async def _first_listening(port: int) -> AsyncIterator[asyncio.Future[float]]:
    """Give the time at which a server listens on a port, of the monotonic clock.

    A thread sees it. The event loop has thousands of clients, and would see it seconds later.
    """
    is_over = Event()
    seen = asyncio.ensure_future(asyncio.to_thread(_look_for, port, is_over))
    try:
        yield seen
    finally:
        is_over.set()
        await seen


def _look_for(port: int, is_over: Event) -> float:
    while not is_over.wait(PROBE_S):
        try:
            socket.create_connection((HOST, port)).close()
        except OSError:
            continue
        break
    return time.monotonic()


async def _recovered(crowd: Crowd, server: Target, killed_s: float, listening_s: float) -> Resume:
    await crowd.until("resuming", lambda user: user.resumed_s > killed_s)
    seconds, cpu_s = time.monotonic() - listening_s, server.cpu_s()
    waits, attempts = Histogram(), Histogram()
    for user, subscriber in zip(crowd.users, crowd.subscribers, strict=True):
        waits.add(max(0, int((user.resumed_s - listening_s) * 1e9)))
        attempts.add(int((user.resumed_s - subscriber.begun_s) * 1e9))
    await crowd.publish()
    await crowd.all_received()
    return Resume(
        **structs.asdict(crowd.returned()),
        down_s=round(listening_s - killed_s, 3),
        since_listening_ms=percentiles(waits),
        attempt_ms=percentiles(attempts),
        server=rate(len(crowd.users), seconds, cpu_s),
    )
