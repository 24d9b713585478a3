"""When edited and deleted texts leave the SQLite engine's files: the write-ahead log, and the copies between its pages."""

from collections.abc import Callable

from channelstream.engines.base import Clock
from channelstream.engines.sqlite_file import SqliteFile

REBUILD_S = 3600.0
"""The shortest time between two rewrites of the file after texts were edited or deleted, in seconds."""
ERASE_S = 1.0
"""The shortest time between two truncations of the write-ahead log after texts were edited or deleted, in seconds."""


class Erasing:
    """The times of the last rewrite and of the last truncation."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rebuilt_s = clock.steady()
        self._erased_s = 0.0

    def after_write(self, file: SqliteFile, trims: bool, supersedes: bool) -> Callable[[], None]:
        """Return the function to call after a write, in the thread of the file.

        Args:
            trims: the write is a part of the upkeep.
            supersedes: it deletes texts that were edited or deleted.
        """
        now_s = self._clock.steady()
        if trims and now_s - self._rebuilt_s >= REBUILD_S:
            self._rebuilt_s = now_s
            return file.rebuild
        if trims or (supersedes and now_s - self._erased_s >= ERASE_S):
            self._erased_s = now_s
            return file.empty_wal
        return lambda: None
