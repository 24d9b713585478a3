"""Reads the files with secrets that options name."""

import stat

from channelstream.errors import ConfigError
from channelstream.regular_file import CannotRead, read_regular


def read_private(option: str, path: str, max_bytes: int) -> bytes:
    """Return what is in the file of an option.

    Raises:
        ConfigError: it cannot be read, or every user of the machine may read or change it. The text has no secret.
    """
    try:
        text, mode = read_regular(path, max_bytes)
    except CannotRead as error:
        raise ConfigError(f"{option}: {path!r} cannot be read: {error}") from error
    if mode & stat.S_IRWXO:
        raise ConfigError(
            f"{option}: every user of the machine may read or change {path!r}, which has secrets: chmod 600 {path}"
        )
    return text
