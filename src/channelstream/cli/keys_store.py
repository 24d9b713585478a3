"""Changes the file of keys: whole and durable, or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_ISREG

from channelstream.config.keys_file import StoredKey, read_stored, written
from channelstream.errors import ConfigError
from channelstream.regular_file import mode_of

OWNER_ONLY = 0o600


@contextmanager
def changed(name: str) -> Iterator[list[StoredKey]]:
    """Yield the keys of a file, which may not exist yet, and write them back at the end; an error changes nothing.

    A second file beside it is written first, and keeps other commands away meanwhile. The file keeps its owner and its mode.

    Raises:
        ConfigError: it cannot be read or written, or another command writes it.
    """
    path = Path(os.path.realpath(name))
    if (mode := mode_of(path)) and not S_ISREG(mode):
        raise ConfigError(f"keys_file: {str(path)!r} cannot be read: it is no regular file")
    other = path.with_name(f"{path.name}.new")
    try:
        descriptor = os.open(other, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY)
    except FileExistsError as error:
        raise ConfigError(
            f"keys_file: another command writes {str(path)!r}; if none does, remove {str(other)!r}"
        ) from error
    except OSError as error:
        raise ConfigError(f"keys_file: {str(other)!r} cannot be written: {error.strerror}") from error
    is_replaced = False
    try:
        with os.fdopen(descriptor, "wb") as file:
            keys = read_stored(str(path)) if path.exists() else []
            yield keys
            file.write(written(keys))
            file.flush()
            _keep_owner(path, file.fileno())
            os.fsync(file.fileno())
        other.replace(path)
        is_replaced = True
        _sync_directory(path.parent)
    except OSError as error:
        raise ConfigError(f"keys_file: {str(path)!r} cannot be written: {error.strerror}") from error
    finally:
        if not is_replaced:  # Else a file of this name is another command's.
            other.unlink(missing_ok=True)


def _keep_owner(path: Path, descriptor: int) -> None:
    """Give a new file the owner, the group and the mode of the one that it replaces, as far as this user may."""
    with suppress(FileNotFoundError, PermissionError):
        status = path.stat()
        os.fchown(descriptor, status.st_uid, status.st_gid)
        os.fchmod(descriptor, status.st_mode)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
