"""Why a file takes no writes, in a sentence that says what to do."""

import sqlite3

_ADVICE = {
    "SQLITE_FULL": "the disk is full: make room on it",
    "SQLITE_BUSY": "another program has locked it: end what that writes",
    "SQLITE_LOCKED": "another program has locked it: end what that writes",
    "SQLITE_READONLY": "it, its directory or its disk is read-only: give the right to write back",
    "SQLITE_CANTOPEN": "its write-ahead log cannot be opened: give the right to write to its directory",
    "SQLITE_IOERR": "its disk fails: see the log of the system",
    "SQLITE_CORRUPT": "it is damaged: stop the server and put a backup in its place",
    "SQLITE_NOTADB": "it is damaged: stop the server and put a backup in its place",
}
"""By SQLite's primary result codes (https://www.sqlite.org/rescode.html); the extended ones begin with them."""


class NotWritten(OSError):
    """Nothing of a transaction was written; its text says why, and what to do."""

    def __init__(self, error: sqlite3.Error) -> None:
        name = getattr(error, "sqlite_errorname", "")
        advice = next((text for code, text in _ADVICE.items() if name.startswith(code)), "")
        super().__init__(f"{advice} ({error})" if advice else str(error))
