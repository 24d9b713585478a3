"""Which tests a worker is given together."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.sharing import FleetEnds, Sharing, group_of, rank

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[1]
PROGRAM = """
import os, pytest

@pytest.mark.parametrize("number", range(6))
@pytest.mark.parametrize("server", ["three-nodes", "nodes-on-a-cluster"])
def test_it(server, number):
    if server == "three-nodes":
        open("workers", "a").write(os.environ["PYTEST_XDIST_WORKER"] + " ")
"""
FLEET_PROGRAM = """
import pytest

running = []

@pytest.fixture(scope="session")
def three_nodes():
    running.append("three nodes")
    yield
    running.append("ended")

@pytest.mark.parametrize("server", ["1-three-nodes", "2-three-nodes"])
def test_with_it(server, three_nodes):
    assert running == ["three nodes"]

def test_without_it():
    assert running == ["three nodes", "ended"]
"""
CONFTEST = """
from tests.sharing import Sharing

def pytest_xdist_make_scheduler(config, log):
    return Sharing(config, log)
"""


@pytest.mark.parametrize(
    ("nodeid", "group"),
    [
        ("tests/api/test_messages.py::test_a[three-nodes]", "three-nodes"),
        ("tests/api/test_messages.py::test_a[ws-three-nodes-1]", "three-nodes"),
        ("tests/api/test_messages.py::test_a[one-node]", "tests/api/test_messages.py"),
        ("tests/e2e/test_pages_trace.py::test_a", "browser"),
        ("tests/test_supervisor.py::test_a[x]", "tests/test_supervisor.py"),
        ("tests/test_clock.py::test_a", "tests/test_clock.py"),
        ("tests/e2e/test_delivery.py::test_a[one-node]", "tests/e2e/test_delivery.py::test_a[one-node]"),
    ],
)
def test_tests_that_share_something_are_together(nodeid: str, group: str) -> None:
    """Tests of one fleet are together, and those of a file; alone are those of a file that takes long and shares nothing."""
    assert group_of(nodeid) == group


def test_long_groups_begin_first() -> None:
    """A fleet before a test in a browser, and that before unlisted ones."""
    fleet = "tests/a.py::test_a[three-nodes]"
    page = "tests/e2e/test_pages_demo.py::test_a"
    plain = "tests/test_clock.py::test_a"
    assert sorted([plain, page, fleet], key=rank) == [fleet, page, plain]


class Worker:
    """Records the tests that it is ordered to run."""

    shutting_down = False

    def __init__(self) -> None:
        self.ordered: list[int] = []

    def send_runtest_some(self, indices: list[int]) -> None:
        self.ordered += indices

    def shutdown(self) -> None:
        self.shutting_down = True


def test_a_finished_group_is_forgotten() -> None:
    """What a worker still has to run is all that is counted after each of its tests."""
    options = SimpleNamespace(loadscopereorder=False)
    sharing = Sharing(SimpleNamespace(getvalue=lambda _: ["popen"], option=options))  # type: ignore[arg-type]
    worker: Any = Worker()
    sharing.add_node(worker)
    sharing.add_node_collection(
        worker, [f"tests/core/test_{number // 4}.py::{number}" for number in range(12)]
    )
    sharing.schedule()
    while worker.ordered:
        sharing.mark_test_complete(worker, worker.ordered.pop(0))
        assert len(sharing.assigned_work[worker]) <= 2
    assert worker.shutting_down and not sharing.has_pending


def test_a_fleet_ends_with_its_group(pytester: pytest.Pytester) -> None:
    """The next test runs without it, and the tests of the group with one."""
    pytester.makepyfile(FLEET_PROGRAM)
    ended = pytester.runpytest_inprocess("-q", "-p", "no:cacheprovider", plugins=[FleetEnds()])
    ended.assert_outcomes(passed=3)


@pytest.mark.slow
def test_a_group_has_one_worker(tmp_path: Path) -> None:
    """Of a run with two workers, one alone runs the tests of a fleet."""
    (tmp_path / "test_program.py").write_text(PROGRAM)
    (tmp_path / "conftest.py").write_text(CONFTEST)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "xdist",
        "-n",
        "2",
        "--dist",
        "loadgroup",
        "-c",
        "/dev/null",
    ]
    environ = {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    run = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    workers = (tmp_path / "workers").read_text().split()
    assert (len(workers), len(set(workers))) == (6, 1)
