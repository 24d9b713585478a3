"""What the parts of the SQLite engine ask of its file besides the batches."""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

from channelstream.engines.sqlite_faults import NotWritten
from channelstream.engines.sqlite_file import SqliteFile
from channelstream.errors import Unavailable

T = TypeVar("T")


class FileCalls:
    """Reads and writes a file in the thread that uses it."""

    def __init__(self, thread: Executor, opened: Callable[[], SqliteFile]) -> None:
        """Create it for a file that need not be open yet.

        Args:
            opened: returns the open file; called in the thread.
        """
        self._thread = thread
        self._opened = opened

    @property
    def file(self) -> SqliteFile:
        """The open file, for what runs in the thread already."""
        return self._opened()

    async def run(self, work: Callable[[SqliteFile], T]) -> T:
        """Return what a function of the file returns.

        Raises:
            Unavailable: the file cannot be read or written.
        """
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: work(self.file))
        except (NotWritten, sqlite3.Error, RuntimeError) as error:
            # Also a file that another process has taken over, and a thread that has ended.
            raise Unavailable("The engine's file cannot be read or written; try again later.") from error
