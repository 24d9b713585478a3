"""Slow turns in the servers that tests share: reported at the end of a run, no failure, as other work shares the machine."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from channelstream.watchdog import Cause

if TYPE_CHECKING:
    from tests.conftest import RunningServer

NAMED = 5
"""Slow turns of each server that are named."""


@dataclass(eq=False)  # Pluggy keeps plugins in sets.
class SlowTurns:
    """A plugin of pytest: each worker adds what its servers reported to its last report, and the first process shows all."""

    _recorded: list[str] = field(default_factory=list)

    def note(self, name: str, servers: "Sequence[RunningServer]") -> None:
        """Read the figures of the servers of one service, which are about to end, from one that runs."""
        running = next((server for server in servers if server.process.poll() is None), None)
        if running is not None:
            self._recorded += lines(name, running.request("GET", "/admin/data/slow_turns").json())

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if report.when == "teardown":
            report.slow_turns, self._recorded = self._recorded, []  # type: ignore[attr-defined]
        return report

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        reports = (each for reports in terminalreporter.stats.values() for each in reports)
        slow = [line for report in reports for line in getattr(report, "slow_turns", ())]
        if slow:
            terminalreporter.section("slow turns of the shared servers")
        for line in slow:
            terminalreporter.write_line(line)


def lines(name: str, document: dict[str, Any]) -> list[str]:
    """Say how slow a server was: one line, and one for each of the last slow turns."""
    if not document["slow_turns"]:
        return []
    slow = [row for row in document["rows"] if Cause(row["cause"]).is_slow_turn]
    return [
        f"{name}: {document['slow_turns']} slow, the longest {document['longest_turn_ms']} ms;"
        f" the process did not run {document['pauses']} times",
        *(
            f"  {row['ms']} ms, {row['cause']}, {row['cpu_ms']} ms of CPU: {row['stack']}"
            for row in slow[:NAMED]
        ),
    ]
