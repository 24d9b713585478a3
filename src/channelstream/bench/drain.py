"""Measures the calls of nodes while the clients of another node, which stops, come back to them."""

import asyncio
import os
import random
import secrets
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from itertools import cycle

from msgspec import structs

from channelstream.bench.application import Application
from channelstream.bench.caller import calling
from channelstream.bench.crew import check_descriptors
from channelstream.bench.crowd import Crowd, crowd_at
from channelstream.bench.load import Load
from channelstream.bench.measure import Target
from channelstream.bench.processes import use_all_descriptors
from channelstream.bench.progress import Progress
from channelstream.bench.redis_process import redis_process
from channelstream.bench.results import Drained, Measured
from channelstream.bench.servers import product

NODES = 3
SPREAD_PER_S = 100
"""Streams that a spread drain closes a second: what two slow cores can take that also run Redis and the clients."""
BEFORE_S = 15.0
"""Time in which calls are measured before the signal."""


async def drain(
    load: Load,
    flags: Sequence[str],
    progress: Progress,
    jitter: Callable[[], float] = random.random,
    before_s: float = BEFORE_S,
    nodes: int = NODES,
) -> Measured:
    """Start nodes on one Redis, connect all clients to the first, stop it, and wait until all are back at the others.

    Args:
        load: its number of clients.
        flags: further options of the nodes.
        jitter: of the waits of clients.

    Raises:
        BenchFailed: a server does not start, or the clients do not all come back.
    """
    check_descriptors(load)
    use_all_descriptors()
    secret = secrets.token_hex(16)
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(redis_process())
        servers = (product("--engine", redis.address, *flags, secret=secret) for _ in range(nodes))
        targets = [await stack.enter_async_context(server) for server in servers]
        clients = crowd_at(targets[0].wire, load.clients, progress, jitter)
        crowd = await stack.enter_async_context(clients)
        return Measured(drained=await _drained(crowd, targets, before_s))


async def spread_drain(load: Load, flags: Sequence[str], progress: Progress) -> Measured:
    """Do the same with streams that are closed one after the other."""
    return await drain(load, ("--drain-spread-s", f"{load.clients / SPREAD_PER_S:g}", *flags), progress)


async def _drained(crowd: Crowd, targets: Sequence[Target], before_s: float) -> Drained:
    stopping, *staying = targets
    async with calling([target.wire for target in staying]) as caller:
        await crowd.publish()
        await crowd.all_received()
        await caller.lap()
        crowd.progress.show("calling")
        await asyncio.sleep(before_s)
        before = await caller.lap()
        signalled_s = _stop(crowd, stopping, staying)
        await crowd.publish()
        await crowd.until("resuming", lambda user: user.resumed_s > signalled_s)
        back_s, during = time.monotonic() - signalled_s, await caller.lap()
        await crowd.publish()
        await crowd.all_received()
    return Drained(
        **structs.asdict(crowd.returned()),
        back_s=round(back_s, 3),
        before_ms=before.answered_ms,
        during_ms=during.answered_ms,
        failed=before.failed + during.failed,
    )


def _stop(crowd: Crowd, stopping: Target, staying: Sequence[Target]) -> float:
    """Take a node out of use, as a balancer does, and stop it. Return the time of the signal, of the monotonic clock."""
    wires = [target.wire for target in staying]
    crowd.shared.application.close()
    crowd.shared.application = Application(wires[0])
    crowd.shared.balancer = cycle(wires)
    crowd.shared.ends.clear()
    assert stopping.pid is not None  # noqa: S101 - for the types: it is a process of ours
    os.kill(stopping.pid, signal.SIGTERM)
    return time.monotonic()
