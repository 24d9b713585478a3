"""How the files are read that options name; each caller's own tests have its texts."""

import os
import stat
from pathlib import Path

import pytest
from tests.closed_folder import closed_folder

from channelstream.regular_file import CannotRead, mode_of, read_regular


def test_a_regular_file_is_read(tmp_path: Path) -> None:
    """Through a link as well, as a secret is mounted into a container."""
    (tmp_path / "file").write_bytes(b"text")
    (tmp_path / "file").chmod(0o640)
    (tmp_path / "link").symlink_to("file")
    for name in ("file", "link"):
        found = read_regular(str(tmp_path / name), 4)
        assert (found.text, found.mode & 0o777) == (b"text", 0o640)


def test_a_pipe_that_nobody_writes_is_refused_at_once(tmp_path: Path) -> None:
    """To open it would wait for a writer, and the server with it."""
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(CannotRead, match="no regular file"):
        read_regular(str(tmp_path / "pipe"), 4)


@pytest.mark.parametrize("path", ["/dev/zero", "/dev", "/dev/fd/{pipe}"])
def test_what_has_no_end_or_no_text_is_refused(path: str) -> None:
    """A device, a directory, and the standard input of a shell's pipe."""
    reader, writer = os.pipe()
    try:
        with pytest.raises(CannotRead, match="no regular file"):
            read_regular(path.format(pipe=reader), 4)
    finally:
        os.close(reader)
        os.close(writer)


def test_a_file_that_is_missing_or_too_long_is_refused(tmp_path: Path) -> None:
    """No more is read of a long one."""
    with pytest.raises(CannotRead, match="No such file"):
        read_regular(str(tmp_path / "missing"), 4)
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(CannotRead, match="more than 4 bytes"):
        read_regular(str(tmp_path / "huge"), 4)


def test_the_mode_of_what_this_user_may_not_reach(tmp_path: Path) -> None:
    """It is as if nothing were there."""
    with closed_folder(tmp_path) as folder:
        file = folder / "channelstream.ini"
        assert (mode_of(file), mode_of("channelstream.ini"), mode_of("none"), mode_of("a\0b")) == (0, 0, 0, 0)
    assert stat.S_ISREG(mode_of(file))
