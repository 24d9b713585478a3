"""How a test run starts its processes, and what it collects."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.conftest import NOT_SLOW, pytest_ignore_collect
from tests.durations import table
from tests.slow_turns import lines
from tests.waiting import PATIENCE_S

from channelstream.watchdog import Cause

ROOT = Path(__file__).parents[1]
SHOW = "import signal, sys; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler, sys.dont_write_bytecode)"

HANGING = """
import asyncio, signal, uvloop

async def hang():
    signal.setitimer(signal.ITIMER_REAL, 0.1)  # What `timeout` has set ends here, however slow the start was.
    await asyncio.Event().wait()

def test_it():
    uvloop.run(hang())
"""


def test_children_start_alike() -> None:
    """A child reacts to SIGINT and caches bytecode."""
    shown = subprocess.run([sys.executable, "-c", SHOW], capture_output=True, text=True, check=True)
    assert shown.stdout.split() == ["True", "False"]


@pytest.mark.slow
def test_children_start_alike_in_the_background() -> None:
    """The same holds where the run was started with SIGINT ignored, as `nohup make test &` does."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        f"{__file__}::test_children_start_alike",
    ]
    ignore = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    run = subprocess.run(
        [sys.executable, "-c", ignore, *command],
        cwd=ROOT, capture_output=True, text=True, check=False, env={"PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.slow
def test_a_test_that_hangs_in_uvloop_is_named(tmp_path: Path) -> None:
    """Its worker ends, although uvloop swallows what `timeout` raises there."""
    (tmp_path / "test_hanging.py").write_text(HANGING)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-c",
        ROOT / "pyproject.toml",
        "--rootdir",
        tmp_path,
        "-n",
        "1",
    ]
    run = subprocess.run(
        [*command, "-p", "no:cacheprovider", "-o", "faulthandler_timeout=1", tmp_path],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=PATIENCE_S,
    )  # fmt: skip
    assert "crashed while running 'test_hanging.py::test_it'" in run.stdout, run.stdout + run.stderr


def test_the_durations_of_tests_are_a_table() -> None:
    """A row for each folder, what took most of the processor first, and the sum; a test with three reports counts once."""
    reports = []
    for nodeid, cpu_s in (
        ("tests/core/a.py::b", 1.4),
        ("tests/clients/js/a.py::b", 2.6),
        ("tests/a.py::b", 0.2),
    ):
        for when in ("setup", "call", "teardown"):
            report = pytest.TestReport(nodeid, ("", 0, ""), {}, "passed", None, when, duration=2.0)
            report.cpu_s = cpu_s if when == "teardown" else 0.0
            reports.append(report)
    assert table(reports) == [
        "| folder | tests | seconds | CPU s |",
        "| --- | --: | --: | --: |",
        "| clients | 1 | 6 | 3 |",
        "| core | 1 | 6 | 1 |",
        "| files of no folder | 1 | 6 | 0 |",
        "| all | 3 | 18 | 4 |",
    ]


def test_slow_turns_of_shared_servers_are_reported() -> None:
    """With their number, and what ran in the last ones; a server without any says nothing."""
    document: dict[str, Any] = {"slow_turns": 2, "longest_turn_ms": 140.0, "pauses": 3}
    row = {"ms": 140.0, "cpu_ms": 130.0, "stack": "a.b:1"}
    document["rows"] = [row | {"cause": Cause.STOPPED.value}, row | {"cause": Cause.BUSY.value}]
    printed = lines("one node", document)
    assert "2 slow, the longest 140.0 ms" in printed[0]
    assert [line.split(": ")[-1] for line in printed[1:]] == ["a.b:1"]
    assert lines("one node", document | {"slow_turns": 0}) == []


@pytest.mark.parametrize(
    ("file", "chosen", "is_ignored"),
    [
        ("e2e/test_faults.py", NOT_SLOW, True),
        ("e2e/test_pages_demo.py", NOT_SLOW, True),
        ("e2e/test_delivery.py", NOT_SLOW, None),
        ("e2e/test_faults.py", "", None),
        ("e2e/test_faults.py", "slow", None),
    ],
)
def test_a_fast_run_imports_no_file_of_slow_tests(file: str, chosen: str, is_ignored: bool | None) -> None:
    """Other runs import all, and a fast one imports each file that has a test for it."""
    config: Any = SimpleNamespace(option=SimpleNamespace(markexpr=chosen))
    assert pytest_ignore_collect(Path(__file__).parent / file, config) is is_ignored
