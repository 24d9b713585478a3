"""The folder for the files of tests: in memory, since a test of SQLite waits a hundred times as long for a disk.

SQLite syncs its file at every commit. What a test proves is the same: also without a disk its file outlives the process.
"""

import os

MEMORY = "/dev/shm"
ENOUGH_BYTES = 1 << 30
"""A run needs some 50 MB, and its failed tests leave their files."""


def is_fit(folder: os.statvfs_result) -> bool:
    """Whether a folder has room, and programs in it can be started: containers often have one without."""
    return folder.f_bavail * folder.f_frsize >= ENOUGH_BYTES and not folder.f_flag & os.ST_NOEXEC


def keep_files_in_memory() -> None:
    """Have pytest make its temporary folders in memory, if this machine lets it and nobody has chosen another place."""
    try:
        folder = os.statvfs(MEMORY)
    except OSError:
        return
    if is_fit(folder):
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", MEMORY)
