"""How many descriptors this process has open, and may have (Linux)."""

import resource
from contextlib import suppress
from pathlib import Path

_OPEN = Path("/proc/self/fd")


def open_descriptors() -> int:
    """Return the number of open descriptors; 0 where it cannot be read, as if none is left."""
    with suppress(OSError):
        # Since Linux 6.2 the size of the folder is their number (proc(5)); before it is 0, and they have to be listed.
        return _OPEN.stat().st_size or sum(1 for _ in _OPEN.iterdir()) - 1
    return 0


def descriptor_limit() -> int:
    """Return how many descriptors this process may open."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
