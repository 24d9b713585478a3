"""Commits in groups: while one batch is written off the loop, the next one gathers all that comes meanwhile.

Batches are written one at a time and in order. What waits is bounded in bytes. When a write fails, everything that
waits fails with it, since it may build upon what was not written.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Protocol

from channelstream.core.log import Entry
from channelstream.errors import Unavailable

BATCH_ROWS = 512
BATCH_BYTES = 1 << 20
"""At which size a batch takes no more requests."""
WAITING_BYTES = 16 << 20
"""What may wait to be written; requests beyond it are refused with 503."""
RETRY_S = 1.0
"""When to try again after a failure what nobody waits for."""

AFTER_FAULT = "the engine continues after an unexpected error"
"""A bug of the writer must not end the task: all later requests would wait for ever."""

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Batch:
    """What is written together.

    Attributes:
        done: becomes true when it is written, false when it could not be.
        entries: numbered events, in order.
        channels: names of channels to be written as they are when the batch is.
        users: likewise.
        gone_channels: names of channels that were forgotten, before anything else in this batch.
        gone_users: likewise.
        undo: what takes back its changes of state, to be called from last to first.
        size: bytes its entries count for.
    """

    done: "asyncio.Future[bool]"
    entries: list[Entry] = field(default_factory=list)
    channels: set[str] = field(default_factory=set)
    users: set[str] = field(default_factory=set)
    forgotten_channels: list[str] = field(default_factory=list)
    forgotten_users: list[str] = field(default_factory=list)
    undo: list[Callable[[], None]] = field(default_factory=list)
    size: int = 0

    def add(self, entry: Entry) -> None:
        self.entries.append(entry)
        self.size += entry.size

    @property
    def is_full(self) -> bool:
        rows = len(self.entries) + len(self.channels) + len(self.users)
        return rows >= BATCH_ROWS or self.size >= BATCH_BYTES


class Writer(Protocol):
    """What is done with batches."""

    def seal(self, batch: Batch) -> Callable[[], None]:
        """Take no more into the batch, and return what writes it, to be called in the thread."""

    async def written(self, batch: Batch) -> None:
        """Let it count, in short turns."""

    def rejected(self, batches: list[Batch]) -> None:
        """Take back what these would have changed."""


class GroupCommit:
    """The queue of batches, and the task that empties it."""

    def __init__(self, writer: Writer, thread: Executor) -> None:
        self._writer = writer
        self._thread = thread
        self._queue: deque[Batch] = deque()
        self._writing: Batch | None = None
        self._work = asyncio.Event()
        self._failing = False
        self._task = asyncio.get_running_loop().create_task(self._run())

    def check_room(self) -> None:
        """Refuse work while too much waits.

        Raises:
            Unavailable: it does.
        """
        if sum(batch.size for batch in self._queue) >= WAITING_BYTES:
            raise Unavailable("The engine's disk does not keep up; try again later.")

    def batch(self) -> Batch:
        """Return the batch that takes what is to be written."""
        self._work.set()
        return self.deferred()

    def deferred(self) -> Batch:
        """Likewise, for what can wait until somebody else writes, or a while."""
        if not self._queue or self._queue[-1].is_full:
            self._queue.append(Batch(asyncio.get_running_loop().create_future()))
        return self._queue[-1]

    async def flush(self) -> None:
        """Wait until everything that waits now is written.

        Raises:
            Unavailable: it could not be.
        """
        last = self._writing
        if self._queue:
            last = self._queue[-1]
            self._work.set()
        if last is not None and not await asyncio.shield(last.done):
            raise Unavailable("The engine cannot write to its disk; try again later.")

    async def close(self) -> None:
        """Write what waits, and stop."""
        try:
            await self.flush()
        except Unavailable:
            logger.warning("stopping without what could not be written")
        self._task.cancel()
        await asyncio.wait([self._task])

    # -- the task

    async def _run(self) -> None:
        while True:
            await self._work.wait()
            if not self._queue:
                self._work.clear()
                continue
            batch = self._writing = self._queue.popleft()
            try:
                write = self._writer.seal(batch)
                await asyncio.get_running_loop().run_in_executor(self._thread, write)
            except Exception as error:
                # Whatever it is - the disk, the file, a bug - the callers must be told, and the next batch tried.
                self._fail(batch, error)
            else:
                await self._succeed(batch)
            self._writing = None

    async def _succeed(self, batch: Batch) -> None:
        if self._failing:
            self._failing = False
            logger.warning("the engine's file takes writes again")
        try:
            await self._writer.written(batch)
        except Exception:
            logger.exception(AFTER_FAULT)
        batch.done.set_result(True)

    def _fail(self, batch: Batch, error: Exception) -> None:
        if not self._failing:
            self._failing = True
            # A fault of the disk needs its operator, any other one us.
            trace = None if isinstance(error, OSError) else error
            logger.error("the engine's file takes no writes, and is tried again: %s", error, exc_info=trace)
        failed = [batch, *self._queue]
        self._queue.clear()
        self._work.clear()
        try:
            self._writer.rejected(failed)
        except Exception:
            logger.exception(AFTER_FAULT)
        for failed_batch in failed:
            failed_batch.done.set_result(False)
        asyncio.get_running_loop().call_later(RETRY_S, self._work.set)
