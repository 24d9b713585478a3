"""Reads files that options name: regular ones, of a bounded length."""

import os
import stat
from pathlib import Path
from typing import NamedTuple


class CannotRead(Exception):
    """A text cannot be read; that of the exception says why."""


class FileRead(NamedTuple):
    """What was read of a file.

    Attributes:
        mode: its type and permissions, as `stat` has them.
    """

    text: bytes
    mode: int


def mode_of(path: str | Path) -> int:
    """Return the type and permissions of a file; 0 if there is none, or this user may not look into its folder.

    `Path.exists` and `Path.is_file` raise an error for such a folder before Python 3.14.
    """
    try:
        return Path(path).stat().st_mode
    except (OSError, ValueError):
        return 0


def read_regular(path: str, max_bytes: int) -> FileRead:
    """Return what is in a file.

    It has to be a regular one: a pipe or a terminal would block a running server, and a device may have no end.

    Raises:
        CannotRead: it cannot be opened, is no regular file, or is longer than this.
    """
    try:
        # Without O_NONBLOCK, to open a pipe waits for its writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError as error:
        raise CannotRead(error.strerror or "the system refuses it") from error
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise CannotRead("it is no regular file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            text = file.read(max_bytes + 1)
    except OSError as error:
        raise CannotRead(error.strerror or "the system refuses it") from error
    finally:
        os.close(descriptor)
    if len(text) > max_bytes:
        raise CannotRead(f"it has more than {max_bytes} bytes")
    return FileRead(text, mode)
