"""The records by time in the SQLite engine's file, beside its log."""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

from channelstream.engines.sqlite_faults import NotWritten
from channelstream.engines.sqlite_file import SqliteFile
from channelstream.engines.sqlite_rows import DROP_OLD_RECORDS, PUT_RECORDS
from channelstream.engines.time_series import SERIES_RECORDS, Record
from channelstream.errors import Unavailable

T = TypeVar("T")


class SqliteTimeSeries:
    """Reads and writes records in the thread of the file."""

    def __init__(self, thread: Executor, file: Callable[[], SqliteFile]) -> None:
        """Create one for a file that need not be open yet.

        Args:
            file: returns the open file; called in the thread.
        """
        self._thread = thread
        self._file = file

    async def append(self, series: str, record: Record, keep_s: float) -> None:
        rows = [(series, record.at_s, record.data)]
        old = [(series, record.at_s - keep_s)]
        await self._run(lambda: self._file().write([(PUT_RECORDS, rows), (DROP_OLD_RECORDS, old)]))

    async def read(self, series: str, since_s: float, limit: int = SERIES_RECORDS) -> list[Record]:
        return await self._run(lambda: [Record(*row) for row in self._file().records(series, since_s, limit)])

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except (NotWritten, sqlite3.Error, RuntimeError) as error:
            # Also a file that another process has taken over, and a thread that has ended.
            raise Unavailable("The engine's file cannot be read or written; try again later.") from error
