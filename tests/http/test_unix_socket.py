"""Which server gets the path of a unix socket."""

import errno
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from channelstream.http.unix_socket import USUAL_RIGHTS, UnixSocket


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s.sock"


@pytest.fixture
def first(path: Path) -> Iterator[UnixSocket]:
    made = UnixSocket(str(path), 1)
    yield made
    made.listening.close()


def rights(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def reach(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_a_new_socket_has_the_usual_rights(first: UnixSocket, path: Path) -> None:
    """A new socket has the usual rights, whatever the umask of the process."""
    assert rights(path) == USUAL_RIGHTS


def test_a_socket_in_use_stays(first: UnixSocket, path: Path) -> None:
    """A second server is refused, and the first one stays reachable."""
    with pytest.raises(OSError) as refused:
        UnixSocket(str(path), 1)
    assert refused.value.errno == errno.EADDRINUSE
    reach(path)


def test_a_full_backlog_counts_as_use(first: UnixSocket, path: Path) -> None:
    """A server that is slow to accept is a server."""
    with socket.socket(socket.AF_UNIX) as waiting, socket.socket(socket.AF_UNIX) as filling:
        waiting.connect(str(path))
        filling.connect(str(path))
        with pytest.raises(OSError, match="in use"):
            UnixSocket(str(path), 1)


def test_a_stale_socket_is_replaced(first: UnixSocket, path: Path) -> None:
    """The socket of a killed server is replaced, with its rights."""
    path.chmod(0o660)
    first.listening.close()
    second = UnixSocket(str(path), 1)
    reach(path)
    assert rights(path) == 0o660
    second.listening.close()


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_a_file_that_is_no_socket_stays(path: Path, kind: str) -> None:
    """A path that leads to something else is refused and left alone."""
    match kind:
        case "file":
            path.write_text("precious")
        case "directory":
            path.mkdir()
        case "link":
            path.symlink_to(path.parent / "elsewhere")
    before = path.lstat()
    with pytest.raises(FileExistsError):
        UnixSocket(str(path), 1)
    assert path.lstat() == before
    assert kind != "file" or path.read_text() == "precious"


def test_own_socket_is_removed(first: UnixSocket, path: Path) -> None:
    """A server that ends leaves nothing behind."""
    first.remove()
    assert not path.exists()


def test_socket_of_another_is_kept(first: UnixSocket, path: Path) -> None:
    """Where another server took the path meanwhile, its socket stays."""
    path.unlink()
    second = UnixSocket(str(path), 1)
    first.remove()
    reach(path)
    second.listening.close()


def test_chosen_rights_outlive_the_server(first: UnixSocket, path: Path) -> None:
    """A socket whose rights an operator changed stays, so that the next server takes them over."""
    path.chmod(0o600)
    first.remove()
    assert rights(path) == 0o600


def test_a_removed_directory_is_no_error(first: UnixSocket, path: Path) -> None:
    """A path that no longer exists raises nothing."""
    path.unlink()
    path.parent.rmdir()
    first.remove()
