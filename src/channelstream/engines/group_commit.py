"""Group commit: while one batch is written in a thread, the next one collects the requests that arrive meanwhile.

A commit to a disk takes milliseconds, however little it writes. One commit per request would limit the server to a few
hundred requests per second. With batches the cost of a request falls as the load rises, and a single request is written
at once.

- **Order.** Batches are written one at a time and in order, and a batch counts (`Writer.written`) before the next one is
  sealed. So what is on the disk is always a prefix of what was accepted. Two writers at once could lose an
  earlier event and keep a later one.
- **A failed write fails everything that waits.** Later batches may build on it: their offsets follow its offsets, an
  edit may refer to its message. `Writer.rejected` takes back all of them, from the last to the first, and their callers
  receive `Unavailable`. To retry the batch silently instead would let callers wait for a full disk without an end.
- **The race with new requests.** A request may arrive between the failure and the moment its callers run. The queue is
  emptied and the state is taken back in one turn of the event loop, without an await in between, so no request can add to
  a batch that is being rejected.
- **Bounded.** Requests are refused while 16 MiB wait (`check_room`), so a slow disk shows as 503 and not as memory. Every
  row counts, since a failed write leaves the rows of users, channels and connections to the next one.
- **The task never ends.** Every caller waits for it, so an unexpected error is logged, and fails its batch only.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from channelstream.core.entry import Entry
from channelstream.core.facts import Fact
from channelstream.engines.registrations import Registrations
from channelstream.errors import Unavailable

BATCH_ROWS = 512
BATCH_BYTES = 1 << 20
"""The size from which on a batch takes no further request, in rows and in bytes."""
WAITING_BYTES = 16 << 20
"""Bytes that may wait to be written; further requests are refused with 503."""
ROW_BYTES = 100
"""What a row counts of them, besides the size of its event."""
RETRY_S = 1.0
"""Seconds after a failure until a deferred batch, for which no caller waits, is written."""

AFTER_FAULT = "the engine continues after an unexpected error"
"""The log line for a bug of the writer, which must not end the task: all later requests would wait for ever."""

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Batch:
    """Changes that are written in one transaction.

    Attributes:
        done: true when it is written, false when it could not be.
        entries: events with offsets, in order.
        channels: names of channels, written as they are when the batch is sealed.
        users: names of users, likewise.
        forgotten_channels: names of channels that were forgotten, deleted before anything else of this batch.
        forgotten_users: names of users, likewise.
        registrations: changes of connections.
        facts: for the outbox, in order.
        undo: functions that take back its changes of state, called from the last to the first.
        was_held: it was kept open over several turns of the event loop.
        size: bytes of its entries.
    """

    done: "asyncio.Future[bool]"
    entries: list[Entry] = field(default_factory=list)
    channels: set[str] = field(default_factory=set)
    users: set[str] = field(default_factory=set)
    forgotten_channels: set[str] = field(default_factory=set)
    forgotten_users: set[str] = field(default_factory=set)
    registrations: Registrations = field(default_factory=Registrations)
    facts: list[Fact] = field(default_factory=list)
    undo: list[Callable[[], None]] = field(default_factory=list)
    size: int = 0
    was_held: bool = False

    def add(self, entry: Entry) -> None:
        self.entries.append(entry)
        self.size += entry.size

    def repeat(self, failed: "Batch") -> None:
        """Add the changes of a batch that was not written, which are older than those to come, without its entries."""
        self.forgotten_channels |= failed.forgotten_channels
        self.forgotten_users |= failed.forgotten_users
        self.channels |= failed.channels
        self.users |= failed.users
        self.registrations.add(failed.registrations)
        self.facts += failed.facts

    @property
    def rows(self) -> int:
        """About how many rows it writes; forgotten names, which were in the file or are among the changed, do not count."""
        changed = len(self.channels) + len(self.users) + self.registrations.size
        return len(self.entries) + changed + len(self.facts)

    @property
    def is_full(self) -> bool:
        return self.rows >= BATCH_ROWS or self.size >= BATCH_BYTES


class Writer(Protocol):
    """Writes batches."""

    @property
    def has_more(self) -> bool:
        """Whether it has more to write after a batch, for which no caller waits."""

    def seal(self, batch: Batch, probes: bool) -> Callable[[], None]:
        """Close the batch to further requests, and return the function that writes it, for the thread.

        Args:
            probes: write at least one row, since the last write has failed: one of nothing would succeed on a full disk.
        """

    async def written(self, batch: Batch) -> None:
        """Commit a written batch to memory and deliver it, in several short turns of the event loop."""

    def rejected(self, batches: list[Batch], deferred: Batch) -> None:
        """Take back the changes of these batches, in one turn of the event loop.

        Args:
            deferred: takes those that are not taken back, but written later.
        """


class GroupCommit:
    """The queue of batches, and the task that writes them.

    Attributes:
        is_failing: the last write has failed.
    """

    def __init__(self, writer: Writer, thread: Executor) -> None:
        self._writer = writer
        self._thread = thread
        self._queue: deque[Batch] = deque()
        self._writing: Batch | None = None
        self._is_together = False
        self._released = asyncio.Event()
        self._released.set()
        self._work = asyncio.Event()
        self.is_failing = False
        self._retry: asyncio.TimerHandle | None = None
        self._task = asyncio.get_running_loop().create_task(self._run())

    @property
    def is_writing(self) -> bool:
        """Whether a batch is being written, or will be."""
        return self._writing is not None or self._work.is_set()

    @property
    def is_held(self) -> bool:
        """Whether a batch is kept open."""
        return not self._released.is_set()

    def check_room(self) -> None:
        """Refuse a request while too much waits.

        Raises:
            Unavailable: `WAITING_BYTES` or more wait.
        """
        if sum(batch.size + ROW_BYTES * batch.rows for batch in self._queue) >= WAITING_BYTES:
            raise Unavailable("The engine's disk does not keep up; try again later.")

    def batch(self) -> Batch:
        """Return the batch that takes a change, and have it written as soon as possible."""
        self._work.set()
        return self.deferred()

    def deferred(self) -> Batch:
        """Return the batch that takes a change which may wait for the next write or retry."""
        if not self._queue or (self._queue[-1].is_full and not (self._is_together or self.is_held)):
            self._queue.append(Batch(asyncio.get_running_loop().create_future()))
        return self._queue[-1]

    @contextmanager
    def together(self) -> Iterator[Batch]:
        """Collect all changes of the block in one batch, also those beyond its size, and have it written.

        The block awaits nothing, so a batch exceeds its size by what one turn of the event loop can change.
        """
        batch = self.deferred()
        self._is_together = True
        try:
            yield batch
        finally:
            self._is_together = False
        self._work.set()

    def hold(self) -> bool:
        """Keep the batch that takes changes open until `release`; false if that is not possible.

        All changes of these turns are in it, beyond its size too. It can be held once, and only one at a time, so that
        those who hold it one after the other cannot keep everything from the disk.
        """
        batch = self.deferred()
        if self.is_held or batch.was_held:
            return False
        batch.was_held = True
        self._released.clear()
        return True

    async def released(self) -> None:
        """Wait until no batch is kept open."""
        await self._released.wait()

    def release(self) -> None:
        """Have the batch written that `hold` has kept open."""
        self._released.set()
        self._work.set()

    async def flush(self) -> None:
        """Return when everything that waits now is written.

        Raises:
            Unavailable: it could not be written.
        """
        last = self._writing
        if self._queue:
            last = self._queue[-1]
            self._work.set()
        if last is not None:
            await self.written(last)

    async def written(self, batch: Batch) -> None:
        """Return when a batch is written.

        Raises:
            Unavailable: it could not be written.
        """
        if not await asyncio.shield(batch.done):
            raise Unavailable("The engine cannot write to its disk; try again later.")

    async def close(self) -> None:
        """Write everything that waits, and stop."""
        try:
            await self.flush()
        except Unavailable:
            logger.warning("stopping, although some changes could not be written")
        self._task.cancel()
        await asyncio.wait([self._task])

    # -- the task

    async def _run(self) -> None:
        while True:
            await self._work.wait()
            while self.is_held:
                await self._released.wait()
            if not self._queue:
                self._work.clear()
                continue
            batch = self._writing = self._queue.popleft()
            try:
                write = self._writer.seal(batch, probes=self.is_failing)
                await asyncio.get_running_loop().run_in_executor(self._thread, write)
            except Exception as error:
                # The disk, the file or a bug: in any case the callers must be answered, and the next batch be tried.
                self._fail(batch, error)
            else:
                await self._succeed(batch)
            self._writing = None

    async def _succeed(self, batch: Batch) -> None:
        if self.is_failing:
            self.is_failing = False
            logger.warning("the engine's file takes writes again")
        # They hold what the changes have removed, such as whole logs, which is freed elsewhere in short turns.
        batch.undo.clear()
        try:
            await self._writer.written(batch)
        except Exception:
            logger.exception(AFTER_FAULT)
        if self._writer.has_more:
            self.batch()
        batch.done.set_result(True)

    def _fail(self, batch: Batch, error: Exception) -> None:
        if not self.is_failing:
            self.is_failing = True
            # A fault of the disk is for the operator; anything else is a bug and needs a traceback.
            trace = None if isinstance(error, OSError) else error
            logger.error("the engine's file takes no writes; trying again: %s", error, exc_info=trace)
        # No await from here to `rejected`: a request would otherwise add to a batch that is being rejected.
        failed = [batch, *self._queue]
        self._queue.clear()
        try:
            with self.together() as deferred:
                self._writer.rejected(failed, deferred)
        except Exception:
            logger.exception(AFTER_FAULT)
        self._work.clear()
        for failed_batch in failed:
            failed_batch.done.set_result(False)
        # `rejected` may have put changes into a deferred batch, and no caller may come to write it.
        if self._retry is not None:
            self._retry.cancel()
        self._retry = asyncio.get_running_loop().call_later(RETRY_S, self._work.set)
