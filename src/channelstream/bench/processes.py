"""CPU and memory of a process and its children, its limit of open files, and a description of the machine, from Linux."""

import os
import platform
import re
import resource
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from channelstream.bench.load import BenchFailed

_CPU_CLOCK = 2
"""`CPUCLOCK_SCHED` of include/linux/posix-timers.h."""
_PROC = Path("/proc")
_LOCAL, _STATE, _INODE = 1, 3, 9
"""Columns of /proc/PID/net/tcp (proc(5)): the local address, the state, and the number of the socket."""
_LISTEN = "0A"


def use_all_descriptors() -> None:
    """Let this process, and those that it starts, open as many files and sockets as the system allows."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class Machine(Struct, frozen=True):
    """The machine of a run."""

    cpu: str
    cores: int
    memory_mb: int
    kernel: str
    python: str


def machine() -> Machine:
    """Return the description of this machine."""
    info = (_PROC / "cpuinfo").read_text()
    model = re.search(r"^model name\s*: (.*)$", info, re.MULTILINE)
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Machine(
        cpu=model[1] if model else platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        memory_mb=pages >> 20,
        kernel=f"{platform.system()} {platform.release()}",
        python=f"{platform.python_implementation()} {platform.python_version()}",
    )


def check_pid(pid: int) -> None:
    """Check that a process can be measured.

    Raises:
        BenchFailed: the process does not exist.
    """
    if not (_PROC / str(pid) / "stat").exists():
        raise BenchFailed(f"--pid: there is no process {pid} on this machine")


def listens(pid: int, port: int) -> bool:
    """Whether a process, or a child of it, listens at a TCP port; true also if this user may not see its sockets."""
    tables = (_read(_PROC / str(pid) / "net" / name) for name in ("tcp", "tcp6"))
    rows = (line.split() for table in tables for line in table.splitlines()[1:])
    listening = {
        f"socket:[{row[_INODE]}]"
        for row in rows
        if row[_STATE] == _LISTEN and int(row[_LOCAL].rpartition(":")[2], 16) == port
    }
    try:
        return any(held in listening for each in family(pid) for held in _files(each))
    except PermissionError:
        return True


def _files(pid: int) -> Iterator[str]:
    """Yield what the open descriptors of a process are."""
    with suppress(FileNotFoundError):  # The process has ended.
        for each in (_PROC / str(pid) / "fd").iterdir():
            with suppress(FileNotFoundError):  # It was closed meanwhile.
                yield str(each.readlink())


def cpu_s(pid: int) -> float:
    """Return the CPU time, user and system, of a process and its children, in seconds."""
    return sum(cpu_s_of_each(pid).values())


def cpu_s_of_each(pid: int) -> dict[int, float]:
    """Return the CPU time of a process and that of each of its children."""
    return {each: _cpu_ns(each) / 1e9 for each in family(pid)}


def memory_kb(pid: int) -> int:
    """Return the memory of a process and its children in KB: proportional set size, or resident size if not readable."""
    return sum(_pss_kb(each) or resident_kb(each) for each in family(pid))


def family(pid: int) -> Iterator[int]:
    """Yield a process and all its descendants."""
    yield pid
    for children in (_PROC / str(pid) / "task").glob("*/children"):
        for child in _read(children).split():
            yield from family(int(child))


def _cpu_ns(pid: int) -> int:
    """Return the CPU time of a process, with that of threads that have ended; 0 if the process has ended.

    It is exact to the nanosecond while the process waits, and to a tick while it runs; `/proc/PID/stat` has ticks of 10 ms
    only. The number of the clock is that of clock_getcpuclockid(3), which Python lacks.
    """
    try:
        return time.clock_gettime_ns(~pid << 3 | _CPU_CLOCK)
    except OSError:
        return 0


def _pss_kb(pid: int) -> int:
    found = re.search(r"^Pss:\s+(\d+) kB$", _read(_PROC / str(pid) / "smaps_rollup"), re.MULTILINE)
    return int(found[1]) if found else 0


def resident_kb(pid: int) -> int:
    """Return the resident memory of a process in KB; 0 if it has ended."""
    found = re.search(r"^VmRSS:\s+(\d+) kB$", _read(_PROC / str(pid) / "status"), re.MULTILINE)
    return int(found[1]) if found else 0


def _read(path: Path) -> str:
    """Return the text of a file of /proc; empty if the process has ended or the file is not readable."""
    try:
        return path.read_text()
    except OSError:
        return ""
