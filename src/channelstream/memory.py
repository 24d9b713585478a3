"""The resident memory of this process, and the memory limit of its cgroup (Linux)."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from resource import getpagesize

_STATM = Path("/proc/self/statm")
_CGROUP = Path("/proc/self/cgroup")
_HIERARCHY = Path("/sys/fs/cgroup")


def resident_bytes() -> int:
    """Return the resident memory of this process (proc(5), statm)."""
    return int(_STATM.read_bytes().split()[1]) * getpagesize()


def cgroup_limit_bytes(cgroup: Path = _CGROUP, hierarchy: Path = _HIERARCHY) -> int:
    """Return the smallest memory limit of this process's cgroup and of those around it; 0 if there is none.

    Args:
        cgroup: names the cgroup (cgroups(7), version 2).
        hierarchy: where the cgroups are mounted.
    """
    return min(_limits(cgroup, hierarchy), default=0)


def _limits(cgroup: Path, hierarchy: Path) -> Iterable[int]:
    with suppress(OSError):
        for line in cgroup.read_text(encoding="utf-8").splitlines():
            if line.startswith("0::/") and ".." not in line:
                group = hierarchy / line.removeprefix("0::/")
                for each in (group, *group.parents):
                    yield from _limit(each / "memory.max")


def _limit(file: Path) -> Iterable[int]:
    """Yield the limit in a file; nothing if it is `max`, or there is none."""
    with suppress(OSError, ValueError):
        yield int(file.read_text(encoding="ascii"))
