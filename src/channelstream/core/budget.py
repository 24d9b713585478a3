"""The byte budget that all logs of a process share."""

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from channelstream.core.deadlines import SLOT_S, Deadlines
from channelstream.core.linked_order import LinkedOrder

if TYPE_CHECKING:
    from channelstream.core.entry import Entry
    from channelstream.core.log import Log

EXPIRY_BATCH = 500
"""Entries that are freed in one step of a sweep."""


class Budget:
    """The bytes that all logs of the process may hold together; an entry in several logs counts once.

    At the bound, entries that were cut are freed first; then the log with the oldest last append drops its oldest entries.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self._order: LinkedOrder[Log] = LinkedOrder()
        self._ages: Deadlines[Log] = Deadlines()
        self._cut: deque[tuple[Log, list[Entry]]] = deque()

    def added(self, log: "Log", size: int) -> None:
        self.used_bytes += size
        if self._order.newest is not log:
            self._order.move_to_end(log)
        if len(log.entries) == 1:  # It had none, so nothing of it is scheduled.
            self.schedule_expiry(log)
        while self.used_bytes > self.limit_bytes:
            self._drop_oldest()

    def changed(self, size: int) -> None:
        """Count an entry that was replaced by one that takes so many bytes more: its log is none the newer for it."""
        self.used_bytes += size
        while self.used_bytes > self.limit_bytes:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        if self._cut:
            self.free()
        else:
            oldest = self._order.oldest
            assert oldest is not None  # noqa: S101 - for the types
            oldest.drop_oldest(1)

    def dropped(self, log: "Log", size: int) -> None:
        self.used_bytes -= size
        if not log.entries:
            self._order.remove(log)
            self._ages.drop(log)

    def cut(self, log: "Log", entries: "list[Entry]") -> None:
        """Take over very many entries that a log has dropped; until `free` has freed them, they count."""
        self._cut.append((log, entries))
        self.dropped(log, 0)

    def free(self) -> bool:
        """Free at most `EXPIRY_BATCH` of the entries that were cut; return whether more are left."""
        if self._cut:
            log, entries = self._cut[0]
            log.free(entries[-EXPIRY_BATCH:])
            del entries[-EXPIRY_BATCH:]
            if not entries:
                self._cut.popleft()
        return bool(self._cut)

    def finish(self, log: "Log") -> None:
        """Free all entries that were cut from a log."""
        for cut in [each for each in self._cut if each[0] is log]:
            self._cut.remove(cut)
            log.free(cut[1])

    def schedule_expiry(self, log: "Log") -> None:
        """Schedule the sweep of a log for the time at which its oldest entry is too old."""
        expires_s = log.expires_s
        if expires_s is None:
            self._ages.drop(log)
        else:
            self._ages.set(log, expires_s + SLOT_S)  # At `expires_s` itself the entry may still stay.

    def sweep(self, now_s: float) -> Iterator[None]:
        """Free entries that are cut or too old, `EXPIRY_BATCH` in each step; logs without such entries cost nothing."""
        while self.free():
            yield
        while (log := self._ages.due(now_s)) is not None:
            log.expire(now_s, EXPIRY_BATCH)
            self.schedule_expiry(log)
            yield
