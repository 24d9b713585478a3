"""How long each part of the tests took, and how much of the processor: reported at the end of every run."""

import os
import resource
import time
from collections import defaultdict
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field

import pytest

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
ALL = "all"
NOTED_EVERY_S = 1.0
"""Short tests are noted with those after them: to look at every process takes milliseconds, more than most tests."""
SMALLEST_TABLE = 4
"""Lines of a table about one folder, which says nothing."""


def _read(file: str) -> str:
    """Return a file of /proc; nothing where its process or thread has just ended."""
    try:
        with open(file) as opened:  # noqa: PTH123 - half the cost of a Path, and called for every process after every test.
            return opened.read()
    except OSError:
        return ""


def _living_s(pid: int) -> float:
    """Return the CPU time of all living descendants of a process and of their ended children (proc(5), fields 14 to 17)."""
    total_s = 0.0
    try:
        tasks = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208 - as above.
    except OSError:
        return total_s  # It has just ended.
    for task in tasks:
        for child in _read(f"/proc/{pid}/task/{task}/children").split():
            fields = _read(f"/proc/{child}/stat").rpartition(")")[2].split()
            total_s += sum(map(int, fields[11:15])) / TICKS_PER_S + _living_s(int(child))
    return total_s


def cpu_s() -> float:
    """Return the CPU time of this process and of everything it has started."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime + _living_s(os.getpid())


@dataclass(eq=False)  # Pluggy keeps plugins in sets.
class Durations:
    """A plugin of pytest: each worker notes the CPU time of tests in their last reports, and the first process adds up."""

    _before_s: float = field(default_factory=cpu_s)
    _begun_s: float = field(default_factory=time.monotonic)
    _noted_s: float = 0.0
    _last: dict[str, tuple[float, str]] = field(default_factory=dict)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if report.when == "teardown" and time.monotonic() - self._noted_s > NOTED_EVERY_S:
            self._noted_s = time.monotonic()
            now_s = cpu_s()
            report.cpu_s, self._before_s = max(0.0, now_s - self._before_s), now_s  # type: ignore[attr-defined]
        return report

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note which test was the last one of its worker."""
        if worker := getattr(report, "worker_id", ""):
            self._last[worker] = (time.monotonic() - self._begun_s, report.nodeid)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        reports = [each for reports in terminalreporter.stats.values() for each in reports]
        lines = table([report for report in reports if isinstance(report, pytest.TestReport)])
        if len(lines) <= SMALLEST_TABLE:
            return
        terminalreporter.section("what took how long")
        for line in lines:
            terminalreporter.write_line(line)
        for worker, (ended_s, nodeid) in sorted(self._last.items()):
            terminalreporter.write_line(f"{worker} was done after {ended_s:.0f} s, last with {nodeid}")


def table(reports: Sequence[pytest.TestReport]) -> list[str]:
    """Return the table by folder, as CONTRIBUTING.md shows it."""
    parts: dict[str, list[float]] = defaultdict(lambda: [0, 0.0, 0.0])
    for report in reports:
        for name in (_part(report.nodeid), ALL):
            parts[name][0] += report.when == "call"
            parts[name][1] += report.duration
            parts[name][2] += getattr(report, "cpu_s", 0.0)
    rows = sorted(parts.items(), key=lambda part: (part[0] == ALL, -part[1][2]))
    return [
        "| folder | tests | seconds | CPU s |",
        "| --- | --: | --: | --: |",
        *(
            f"| {name} | {count:,.0f} | {wall_s:.0f} | {used_s:.0f} |"
            for name, (count, wall_s, used_s) in rows
        ),
    ]


def _part(nodeid: str) -> str:
    """Return the folder of a test below `tests`; files outside of folders count as one part."""
    folders = nodeid.partition("::")[0].split("/")[1:-1]
    return folders[0] if folders else "files of no folder"
