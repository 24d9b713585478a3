"""Measures memory and loop delay of the process once a second, by which it sheds load (`core/shedding.py`)."""

import asyncio
import logging
from collections.abc import Callable

from channelstream.config import Settings
from channelstream.core.shedding import Shedding, delay_bound, memory_bound
from channelstream.memory import ResidentMemory, cgroup_limit_bytes
from channelstream.service import Node

SAMPLE_S = 1.0
"""Interval of the samples."""
PART_OF_LIMIT = 0.9
"""Part of the memory limit of a cgroup that its processes may use before they shed load."""

logger = logging.getLogger(__name__)


def default_bound_bytes(limit_bytes: int, workers: int) -> int:
    """Return the bound of a process's memory where the limit of its cgroup is this one; 0 means none."""
    return int(PART_OF_LIMIT * limit_bytes / workers)


class LoadMonitor:
    """The task that takes the samples."""

    def __init__(
        self, shedding: Shedding, memory_bytes: Callable[[], int], steady: Callable[[], float]
    ) -> None:
        """Create a monitor that has not started.

        Args:
            memory_bytes: returns the resident memory of the process.
            steady: returns the time of a steady clock, in seconds.
        """
        self._shedding = shedding
        self._memory_bytes = memory_bytes
        self._steady = steady
        self._delay_s = 0.0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self.sample()
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def on_tick(self, delay_s: float) -> None:
        """Note the delay of a timer of the event loop."""
        self._delay_s = max(self._delay_s, delay_s)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(SAMPLE_S)
            self.sample()

    def sample(self) -> None:
        """Take a sample, and log when the shedding of load begins and ends."""
        delay_s, self._delay_s = self._delay_s, 0.0
        memory_bytes, before = self._memory_bytes(), self._shedding.reason
        self._shedding.observe(memory_bytes, delay_s, self._steady())
        reason = self._shedding.reason
        if reason and not before:
            logger.warning(
                "too much load (%s): new connections and long replays are refused; %d MiB of memory, loop delay %.0f ms",
                reason, memory_bytes >> 20, 1000 * delay_s,
            )  # fmt: skip
        elif before and not reason:
            logger.warning("the load has eased (%s): new connections are taken again", before)


def make_load_monitor(settings: Settings, node: Node) -> LoadMonitor:
    """Return the monitor of a node, which has the bounds of the settings then."""
    memory_bytes = settings.shed_memory_bytes or default_bound_bytes(cgroup_limit_bytes(), settings.workers)
    node.shedding.limit(memory_bound(memory_bytes), delay_bound(settings.shed_loop_delay_ms / 1000))
    return LoadMonitor(node.shedding, ResidentMemory().read, node.clock.steady)
