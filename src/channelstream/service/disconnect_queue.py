"""Unregisters ended connections from the engine, many at a time.

Invariant: the lock of a connection's id is held from the moment in which the node forgets the connection until the
engine has unregistered it. The race is a client whose application registers the same id again at once: without the
lock the late unregistration would remove the new connection. With it, `/connect` waits, and the new registration
comes second.

Connections wait here so that they leave together. When a proxy or a network fails, thousands end in one loop turn.
One by one, each would cost the engine a call and each channel an event for each user who leaves. In batches, the
users who leave a channel at once are one event.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from channelstream.engines.members import Leaving
from channelstream.errors import Unavailable
from channelstream.service.locks import Lock

BATCH = 512
"""Connections in one call to the engine."""

logger = logging.getLogger(__name__)


class DisconnectQueue:
    """A queue with one task that drains it.

    Its bound is the number of connections that the node has held: each id is in it at most once, since its lock is
    held.
    """

    def __init__(self, disconnect: Callable[[Sequence[Leaving]], Awaitable[None]]) -> None:
        """Create an empty queue.

        Args:
            disconnect: unregisters connections from the engine; other tasks may run meanwhile.
        """
        self._disconnect = disconnect
        self._waiting: deque[tuple[Leaving, Lock]] = deque()
        self._added = self._done = 0
        self._progress = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._failures: list[Unavailable] = []

    @property
    def is_running(self) -> bool:
        """Whether connections are being unregistered."""
        return self._task is not None

    def add(self, leaving: Leaving, lock: Lock) -> None:
        """Queue a connection, and release the lock of its id once it is unregistered."""
        self._waiting.append((leaving, lock))
        self._added += 1
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def drained(self) -> None:
        """Wait until everything that is queued now has been unregistered; later additions are not waited for.

        Raises:
            Unavailable: some connections could not be unregistered, as the engine is out of reach.
        """
        until = self._added
        while self._task is not None and self._done < until:
            await self._progress.wait()
        if self._failures:
            raise self._failures.pop()

    async def _run(self) -> None:
        try:
            while self._waiting:
                count = min(BATCH, len(self._waiting))
                await self._unregister([self._waiting.popleft() for _ in range(count)])
        finally:
            self._task = None

    async def _unregister(self, batch: Sequence[tuple[Leaving, Lock]]) -> None:
        try:
            await self._disconnect([leaving for leaving, _ in batch])
        except Unavailable as error:  # A part of the engine may be out of reach, for some connections only.
            self._failures = [error]
        except Exception:
            # One faulty batch must not keep the others from leaving.
            logger.exception("connections could not be unregistered")
        finally:
            for _, lock in batch:
                lock.release()
            self._done += len(batch)
            # Every waiting `drained` checks again.
            self._progress.set()
            self._progress.clear()
