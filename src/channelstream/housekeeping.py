"""Periodic work: expires connections, and forgets idle users and channels."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from channelstream.errors import Unavailable
from channelstream.node import Node

SWEEP_INTERVAL_S = 0.25
"""Interval at which deadlines of connections are checked, in seconds."""
COLLECT_EVERY = 40
"""Sweeps between two collections of idle users, channels and aged logs: every 10 s."""

logger = logging.getLogger(__name__)


class Housekeeping:
    """The task that does the periodic work of a node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        count = 0
        while True:
            await asyncio.sleep(SWEEP_INTERVAL_S)
            count += 1
            await _attempt(self._node.sweep)
            if count % COLLECT_EVERY == 0:
                await _attempt(self._node.collect)


async def _attempt(work: Callable[[], Awaitable[None]]) -> None:
    try:
        await work()
    except Unavailable as error:
        logger.warning("housekeeping is delayed, the engine is not available: %s", error)
    except Exception:
        # An error for one connection must not keep the others from expiring.
        logger.exception("housekeeping failed; the next round runs as planned")
