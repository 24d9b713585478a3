"""Periodic work: expires connections, reads what other nodes have revoked, and forgets idle users and channels.

What else is due every second comes from the composition root.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable

from channelstream.core.line_limit import LineLimit
from channelstream.errors import Unavailable
from channelstream.service import Node

SWEEP_INTERVAL_S = 0.25
"""Interval at which deadlines of connections are checked, in seconds."""
BEHIND_S = 1.0
"""A round that begins so late shows that the loop is behind, in seconds."""
POSTPONED_S = 120.0
"""Longest time for which no connection expires because of that, in seconds."""
SECOND = 4
"""Sweeps in a second, at the end of which the revocations of other nodes are read."""
COLLECT_EVERY = 40
"""Sweeps between two collections of idle users, channels and aged logs: every 10 s."""

Work = Callable[[], Awaitable[None]]

logger = logging.getLogger(__name__)


class Rounds:
    """Decides in which rounds connections may expire: not while the loop is behind.

    Then the kernel holds what clients have sent. A connection whose stream is about to open would expire before its
    request is read, and its client would have to register again: where very many come back at once, they would load the
    loop so much that no one gets through.
    """

    def __init__(self, now_s: float) -> None:
        self._punctual_s = now_s

    def may_expire(self, planned_s: float, now_s: float) -> bool:
        """Return whether connections may expire in the round that begins now.

        Args:
            planned_s: when it should have begun.
        """
        if now_s - planned_s < BEHIND_S:
            self._punctual_s = now_s
            return True
        return now_s - self._punctual_s > POSTPONED_S


class Housekeeping:
    """The task that does the periodic work of a node."""

    def __init__(self, node: Node, each_second: Iterable[Work] = ()) -> None:
        self._node = node
        self._each_second = tuple(each_second)
        self._rounds = Rounds(node.clock.steady())
        self._task: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        self._is_paused = False
        self._delays = LineLimit()  # Without an engine each sweep may be delayed.

    async def pause(self) -> None:
        """Return when no round is in progress; none begins until `resume`."""
        await self._turn.acquire()
        self._is_paused = True

    def resume(self) -> None:
        """Continue after `pause`, also after one that was cancelled."""
        if self._is_paused:
            self._is_paused = False
            self._turn.release()

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        count = 0
        while True:
            planned_s = self._node.clock.steady() + SWEEP_INTERVAL_S
            await asyncio.sleep(SWEEP_INTERVAL_S)
            count += 1
            async with self._turn:
                await self._round(count, planned_s)

    async def _round(self, count: int, planned_s: float) -> None:
        if self._rounds.may_expire(planned_s, self._node.clock.steady()):
            await self._attempt(self._node.sweep)
        if count % SECOND == 0:
            for work in (self._node.revocations.catch_up, *self._each_second):
                await self._attempt(work)
        if count % COLLECT_EVERY == 0:
            await self._attempt(self._node.collect)

    async def _attempt(self, work: Work) -> None:
        try:
            await work()
        except Unavailable as error:
            if self._delays.admits(self._node.clock.steady()):
                omitted = self._delays.take_omitted()
                logger.warning("housekeeping is delayed, the engine is not available: %s%s", error, omitted)
        except Exception:
            # An error for one connection must not keep the others from expiring.
            logger.exception("housekeeping failed; the next round runs as planned")
