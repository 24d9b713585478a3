"""The path of a unix socket: taken from no server that lives, and given up only while it leads to us."""

import errno
import fcntl
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

USUAL_RIGHTS = 0o666
"""Everybody may connect; the rights of the directory say who gets there."""


class UnixSocket:
    """A listening socket and the file that leads to it.

    Attributes:
        listening: the socket.
    """

    def __init__(self, path: str, backlog: int) -> None:
        """Listen at a path, with the rights of the socket that was there before, if any.

        Raises:
            FileExistsError: the path is no socket.
            OSError: the path cannot be had; with EADDRINUSE a server listens there.
        """
        self._path = Path(path)
        self.listening = socket.socket(socket.AF_UNIX)
        try:
            with _alone(self._path):
                self._rights = _cleared(self._path)
                self.listening.bind(path)
                self._path.chmod(self._rights)
                # Only who listens is seen by the next one that asks whether somebody is there.
                self.listening.listen(backlog)
                self._inode = _inode(self._path.lstat())
        except BaseException:
            self.listening.close()
            raise

    def remove(self) -> None:
        """Remove the file, unless it is another server's by now, or has rights that the next server takes over."""
        # A file that stays leads to nobody: the next server finds that out, and takes its place.
        with suppress(OSError), _alone(self._path):
            found = self._path.lstat()
            if _inode(found) == self._inode and stat.S_IMODE(found.st_mode) == USUAL_RIGHTS:
                self._path.unlink()


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other servers from the sockets of the directory for the moment between looking and acting."""
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)


def _cleared(path: Path) -> int:
    """Remove a socket at which nobody listens; return the rights for the next one."""
    try:
        found = path.lstat().st_mode
    except FileNotFoundError:
        return USUAL_RIGHTS
    if not stat.S_ISSOCK(found):
        raise FileExistsError(errno.EEXIST, "there is something else than a socket", str(path))
    if _is_listened_at(path):
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), str(path))
    path.unlink()
    return stat.S_IMODE(found)


def _is_listened_at(path: Path) -> bool:
    """Whether a process holds the socket; only a refused connection proves that none does (connect(2))."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
        except BlockingIOError:
            pass  # Its backlog is full.
        return True


def _inode(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino
