"""A folder that the user of a test may not enter, as `/etc/ssl/private` is to the user of a server."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NOBODY = 65534
"""The user id that has no file."""


@contextmanager
def closed_folder(directory: Path) -> Iterator[Path]:
    """Yield a folder that is the working directory, with a file in it, neither of which this user may reach.

    Root may enter each folder, so it is another user here.
    """
    folder = directory / "closed"
    folder.mkdir()
    (folder / "channelstream.ini").touch()
    user, before = os.geteuid(), Path.cwd()
    os.chdir(folder)
    folder.chmod(0)
    if user == 0:
        os.seteuid(NOBODY)
    try:
        yield folder
    finally:
        os.seteuid(user)
        folder.chmod(0o700)
        os.chdir(before)
