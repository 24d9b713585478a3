"""Explains why a file cannot be used or written, in a sentence that says what to do."""

import sqlite3

_ADVICE = {
    "SQLITE_FULL": "the disk is full: make room on it",
    "SQLITE_BUSY": "another program has locked it: end what that writes",
    "SQLITE_LOCKED": "another program has locked it: end what that writes",
    "SQLITE_READONLY": "it, its directory or its disk is read-only: give the right to write back",
    "SQLITE_CANTOPEN": "its write-ahead log cannot be opened: give the right to write to its directory",
    "SQLITE_IOERR": "its disk fails: see the log of the system",
    "SQLITE_CORRUPT": "it is damaged: stop the server and put a backup in its place",
    "SQLITE_NOTADB": "it is damaged, or no database: put a backup in its place, or name another file",
}
"""By SQLite's primary result codes (https://www.sqlite.org/rescode.html); the extended ones begin with them."""


_ADVICE_AT_START = {
    FileNotFoundError: "its directory is not there: make it, or name another file",
    NotADirectoryError: "a part of its path is no directory: name another file",
    IsADirectoryError: "it is a directory: name a file",
    PermissionError: "give the server the right to write to it and to its directory",
}


def why_unusable(error: sqlite3.Error | OSError) -> str:
    """Return why a file cannot be opened, and what to do."""
    if isinstance(error, sqlite3.Error):
        return _advised(error)
    return _ADVICE_AT_START.get(type(error), str(error))


class NotWritten(OSError):
    """A transaction was not written; the text says why, and what to do."""

    def __init__(self, error: sqlite3.Error | OSError) -> None:
        super().__init__(_advised(error))


def _advised(error: sqlite3.Error | OSError) -> str:
    name = getattr(error, "sqlite_errorname", "")
    advice = next((text for code, text in _ADVICE.items() if name.startswith(code)), "")
    return f"{advice} ({error})" if advice else str(error)
