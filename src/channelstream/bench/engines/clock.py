"""Exact CPU time of a process, for measurements of few calls."""

from pathlib import Path

from channelstream.bench.processes import cpu_s


def precise_cpu_s(pid: int | None) -> float:
    """Return the CPU time of a process in seconds, exact to the nanosecond if the kernel has it, otherwise to a tick."""
    if pid is None:
        return 0.0
    try:
        # The first field of Documentation/scheduler/sched-stats.rst, "time spent on the cpu", of every thread.
        threads = [each.read_text() for each in Path(f"/proc/{pid}/task").glob("*/schedstat")]
    except OSError:
        threads = []
    return sum(int(each.split()[0]) for each in threads) / 1e9 if threads else cpu_s(pid)
