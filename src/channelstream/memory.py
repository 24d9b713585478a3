"""The resident memory of this process, and the memory limit of its cgroup (Linux)."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from resource import getpagesize

_STATM = Path("/proc/self/statm")
_CGROUP = Path("/proc/self/cgroup")
_HIERARCHY = Path("/sys/fs/cgroup")
_NO_LIMIT = 1 << 62
"""Version 1 writes the largest number of pages in bytes, a little below 2**63, where there is no limit."""


class ResidentMemory:
    """Reads the resident memory of this process (proc(5), statm)."""

    def __init__(self) -> None:
        self._bytes = 0

    def read(self) -> int:
        """Return it in bytes; the last value where it cannot be read, as if no descriptor is left."""
        with suppress(OSError):
            self._bytes = int(_STATM.read_bytes().split()[1]) * getpagesize()
        return self._bytes


def cgroup_limit_bytes(cgroup: Path = _CGROUP, hierarchy: Path = _HIERARCHY) -> int:
    """Return the smallest memory limit of this process's cgroup and of those around it; 0 if there is none.

    Args:
        cgroup: names the cgroup (cgroups(7)), in version 1 that of memory.
        hierarchy: where the cgroups are mounted.
    """
    return min(_limits(cgroup, hierarchy), default=0)


def _limits(cgroup: Path, hierarchy: Path) -> Iterable[int]:
    with suppress(OSError, ValueError):
        for line in cgroup.read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if ".." in path:
                continue
            if not controllers:
                yield from _limits_around(hierarchy, path, "memory.max")
            elif "memory" in controllers.split(","):
                yield from _limits_around(hierarchy / "memory", path, "memory.limit_in_bytes")


def _limits_around(root: Path, path: str, name: str) -> Iterable[int]:
    """Yield the limits of a group and of those around it.

    In a container the path may be that of the host, which is not there; the root is the group of the container then.
    """
    group = root / path.lstrip("/")
    for each in (group, *group.parents):
        yield from _limit(each / name)


def _limit(file: Path) -> Iterable[int]:
    """Yield the limit in a file; nothing if it says that there is none, or is missing."""
    with suppress(OSError, ValueError):
        limit = int(file.read_text(encoding="ascii"))
        if limit < _NO_LIMIT:
            yield limit
