"""What becomes of a batch of the SQLite engine: it is written, with a part of the upkeep, and delivered; or it is undone.

The registry and the log have its changes already, but for its events: these are staged until they are written.
"""

import logging
from collections.abc import Callable

from channelstream.core.events import Presence, UsersLeft
from channelstream.engines.base import Clock, Receiver
from channelstream.engines.group_commit import AFTER_FAULT, Batch
from channelstream.engines.local_log import LocalLog
from channelstream.engines.sqlite_compaction import Compaction
from channelstream.engines.sqlite_erasing import Erasing
from channelstream.engines.sqlite_file import SqliteFile
from channelstream.engines.sqlite_outbox import SqliteOutbox
from channelstream.engines.sqlite_upkeep import Upkeep
from channelstream.engines.sqlite_writes import writes_of
from channelstream.slices import Slices

logger = logging.getLogger(__name__)


class SqliteWriter:
    """Writes batches to the file (`group_commit.Writer`)."""

    def __init__(
        self,
        log: LocalLog,
        upkeep: Upkeep,
        file: Callable[[], SqliteFile],
        outbox: SqliteOutbox,
        receiver: Receiver,
        clock: Clock,
    ) -> None:
        """Create a writer of a log whose state the file has.

        Args:
            file: returns the open file.
            receiver: is delivered what was written.
        """
        self._log = log
        self._upkeep = upkeep
        self._file = file
        self._erasing = Erasing(clock)
        self._outbox = outbox
        self._receiver = receiver
        self._clock = clock
        self._is_trimming = False

    @property
    def has_more(self) -> bool:
        return self._is_trimming and self._upkeep.is_due

    def seal(self, batch: Batch, probes: bool) -> Callable[[], None]:
        self._upkeep.forget(batch.forgotten_channels)
        self._is_trimming = self._upkeep.is_due
        registry, committed = self._log.registry, self._log.committed
        clock_offset_s = self._upkeep.clock_offset_s
        upkeep = self._upkeep.writes(committed) if self._is_trimming else ()
        changes = writes_of(batch, registry, committed, clock_offset_s, probes)
        compaction = Compaction(batch.entries, registry)
        file, entries, facts = self._file(), batch.entries, batch.facts
        erases = self._erasing.after_write(file, self._is_trimming, compaction.supersedes)

        def write() -> None:
            after = changes.after(entries, compaction, clock_offset_s)
            file.write([*changes.before, *upkeep, *after], erases=compaction.supersedes)
            self._outbox.written(facts)
            erases()

        return write

    async def written(self, batch: Batch) -> None:
        if self._is_trimming:
            self._upkeep.done()
        slices = Slices(self._clock.steady)
        for entry in batch.entries:
            try:
                # Without an await in between: the log then has exactly the delivered entries.
                self._log.staged.remove([entry])
                self._log.commit(entry)
                self._upkeep.track(entry)
                self._receiver.deliver(entry)
            except Exception:
                # The file has the other entries as well, so they must be committed.
                logger.exception(AFTER_FAULT)
            await slices.due()

    def rejected(self, batches: list[Batch], deferred: Batch) -> None:
        if self._is_trimming:
            self._upkeep.failed()
        for batch in batches:
            deferred.repeat(batch)
        self._log.announcements.discard()
        for batch in reversed(batches):
            for undo in reversed(batch.undo):
                undo()
        entries = [entry for batch in batches for entry in batch.entries]
        self._log.roll_back(entries)
        # Membership is not undone, so its events must be announced: they get new offsets and are written later.
        for entry in entries:
            if isinstance(entry.event, Presence | UsersLeft):
                deferred.add(self._log.assign(entry.event))
