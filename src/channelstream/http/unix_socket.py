"""The path of a unix socket: never taken from a living server, and removed only while it leads to this one.

Race: two servers may start at the same path, or one stops while another starts. To look whether somebody listens and
then to bind, or to compare and then to remove, are two steps each. An exclusive lock on the directory makes them one
for all servers (`_locked`). A lock file beside the socket would do the same, and would have to be cleaned up.
"""

import errno
import fcntl
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

USUAL_RIGHTS = 0o666
"""Mode of a new socket: everyone may connect who has access to its directory."""


class UnixSocket:
    """A listening socket and the file that leads to it.

    Attributes:
        listening: the socket.
    """

    def __init__(self, path: str, backlog: int) -> None:
        """Listen at a path, with the mode of the socket that was there before, if any.

        Raises:
            FileExistsError: the path exists and is not a socket.
            OSError: the path cannot be used; with EADDRINUSE a server listens there.
        """
        self._path = Path(path)
        self.listening = socket.socket(socket.AF_UNIX)
        try:
            with _locked(self._path):
                self._rights = _cleared(self._path)
                self.listening.bind(path)
                self._path.chmod(self._rights)
                # Inside the lock: a socket that is bound but does not listen yet looks abandoned to the next server.
                self.listening.listen(backlog)
                self._inode = _inode(self._path.lstat())
        except BaseException:
            self.listening.close()
            raise

    @classmethod
    def taken_over(cls, listening: socket.socket) -> Self:
        """Return the listening socket of another process, which leaves its file to this one."""
        unix = cls.__new__(cls)
        unix.listening = listening
        unix._path = Path(listening.getsockname())
        unix._inode = _inode(unix._path.lstat())
        return unix

    def remove(self) -> None:
        """Remove the file, unless another server has replaced it, or its mode was changed for the next server to keep."""
        # A file that stays refuses connections, so the next server replaces it.
        with suppress(OSError), _locked(self._path):
            found = self._path.lstat()
            if _inode(found) == self._inode and stat.S_IMODE(found.st_mode) == USUAL_RIGHTS:
                self._path.unlink()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Lock the directory against other servers for a check and the act that depends on it."""
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)


def _cleared(path: Path) -> int:
    """Remove a socket on which no process listens; return the mode for the next one."""
    try:
        found = path.lstat().st_mode
    except FileNotFoundError:
        return USUAL_RIGHTS
    if not stat.S_ISSOCK(found):
        raise FileExistsError(errno.EEXIST, "it exists and is not a socket", str(path))
    if _is_listened_at(path):
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), str(path))
    path.unlink()
    return stat.S_IMODE(found)


def _is_listened_at(path: Path) -> bool:
    """Whether a process listens on the socket; only a refused connection proves that none does (connect(2))."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
        except BlockingIOError:  # Its backlog is full.
            return True
        return True


def _inode(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino
