"""Connections that are gone here and that the engine still counts: handed to it together, however many leave at once."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from channelstream.engines.base import Leaving
from channelstream.errors import Unavailable
from channelstream.node.locks import Lock

AT_ONCE = 512
"""Connections handed to the engine at once: users who leave a channel in one turn of the loop part in one event."""

logger = logging.getLogger(__name__)


class DisconnectQueue:
    """A queue with one task that empties it.

    It holds at most what the node has held: each id once, whose turn goes on until the engine has counted it out. So a
    connection that comes back under its id is made after that.
    """

    def __init__(self, disconnect: Callable[[Sequence[Leaving]], Awaitable[None]]) -> None:
        """Create an empty queue.

        Args:
            disconnect: counts connections out of the engine; others may have their turn meanwhile.
        """
        self._disconnect = disconnect
        self._waiting: deque[tuple[Leaving, Lock]] = deque()
        self._added = self._done = 0
        self._progress = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._failure: Unavailable | None = None

    def add(self, leaving: Leaving, lock: Lock) -> None:
        """Have a connection counted out, and let go of the turn of its id after that."""
        self._waiting.append((leaving, lock))
        self._added += 1
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def drained(self) -> None:
        """Wait until what waits now is done; what comes meanwhile is not waited for.

        Raises:
            Unavailable: some of it could not be, as the engine is out of reach.
        """
        until = self._added
        while self._task is not None and self._done < until:
            await self._progress.wait()
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    async def _run(self) -> None:
        try:
            while self._waiting:
                await self._count_out(
                    [self._waiting.popleft() for _ in range(min(AT_ONCE, len(self._waiting)))]
                )
        finally:
            self._task = None
            self._wake()

    async def _count_out(self, some: Sequence[tuple[Leaving, Lock]]) -> None:
        try:
            await self._disconnect([leaving for leaving, _ in some])
        except Unavailable as error:  # A part of the engine may be out of reach for some of them only.
            self._failure = error
        except Exception:
            # Whatever went wrong for these, the others must still leave.
            logger.exception("connections could not be counted out")
        finally:
            for _, lock in some:
                lock.release()
            self._done += len(some)
            self._wake()

    def _wake(self) -> None:
        """Let every `drained` that waits look again."""
        self._progress.set()
        self._progress.clear()
