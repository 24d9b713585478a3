"""Measures how long it takes until all clients are back after their server was killed and started again."""

import os
import random
import secrets
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from tempfile import TemporaryDirectory

from msgspec import structs

from channelstream.bench.crew import check_descriptors
from channelstream.bench.crowd import Crowd, crowd_at
from channelstream.bench.histogram import Histogram
from channelstream.bench.load import Load
from channelstream.bench.measure import Stopwatch, Target
from channelstream.bench.processes import use_all_descriptors
from channelstream.bench.progress import Progress
from channelstream.bench.results import Measured, Resume, percentiles, rate
from channelstream.bench.servers import product


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
    secret = secrets.token_hex(16)
    options = ("--secret", secret, *options)
    async with AsyncExitStack() as clients_end:
        async with product(*options) as first:
            wire = structs.replace(first.wire, secret=secret)
            crowd = await clients_end.enter_async_context(crowd_at(wire, clients, progress, jitter))
            await crowd.publish()
            await crowd.all_received()
            await crowd.publish()
            crowd.shared.ends.clear()
            killed_s = time.monotonic()
            assert first.pid is not None  # noqa: S101 - for the types: it is a process of ours
            os.kill(first.pid, signal.SIGKILL)
        async with product("-p", str(wire.port), *options) as second:
            return await _recovered(crowd, second, killed_s)


async def _recovered(crowd: Crowd, server: Target, killed_s: float) -> Resume:
    watch, listening_s = Stopwatch(server), time.monotonic()
    with watch:
        await crowd.until("resuming", lambda user: user.resumed_s > killed_s)
    waits, attempts = Histogram(), Histogram()
    for user, subscriber in zip(crowd.users, crowd.subscribers, strict=True):
        waits.add(int((user.resumed_s - listening_s) * 1e9))
        attempts.add(int((user.resumed_s - subscriber.begun_s) * 1e9))
    await crowd.publish()
    await crowd.all_received()
    return Resume(
        **structs.asdict(crowd.returned()),
        down_s=round(listening_s - killed_s, 3),
        since_listening_ms=percentiles(waits),
        attempt_ms=percentiles(attempts),
        server=rate(len(crowd.users), watch.seconds, watch.cpu_s),
    )
