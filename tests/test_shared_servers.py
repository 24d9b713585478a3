"""When the servers that tests share start and end."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from tests.shared_servers import WINDOWS, SharedServers

FIRST = "tests/api/test_a.py::test_a[three-nodes]"
SECOND = "tests/api/test_b.py::test_b[three-nodes]"
OTHER = "tests/test_clock.py::test_a"


class Run:
    """Plays tests with servers that record what happens to them."""

    def __init__(self, is_worker: bool) -> None:
        self.record: list[str] = []
        self._shared = SharedServers(is_worker)

    @contextmanager
    def _server(self) -> Iterator[object]:
        self.record.append("start")
        yield object()
        self.record.append("end")

    def test(self, nodeid: str, following: str | None, name: str = "three nodes") -> object:
        """Run a test that needs the servers of a name; only names of pages need the browser."""
        used = self._shared.get(name, self._server)
        self.record.append(nodeid)
        item: Any = SimpleNamespace(nodeid=nodeid)
        following_item: Any = following and SimpleNamespace(
            nodeid=following, fixturenames=[WINDOWS] if "_page" in following else []
        )
        self._shared.pytest_runtest_teardown(item, following_item)
        return used


def test_a_worker_ends_servers_with_the_last_test_of_their_group() -> None:
    """Tests of several files share them; for another group they start again."""
    run = Run(is_worker=True)
    assert run.test(FIRST, SECOND) is run.test(SECOND, OTHER)
    assert run.record == ["start", FIRST, SECOND, "end"]
    run.test(OTHER, None)
    assert run.record[4:] == ["start", OTHER, "end"]


def test_a_single_process_keeps_them_until_the_end() -> None:
    """It runs the tests of all groups mixed."""
    run = Run(is_worker=False)
    assert run.test(FIRST, OTHER) is run.test(SECOND, None)
    assert run.record == ["start", FIRST, SECOND, "end"]


def test_a_single_process_ends_the_browser_before_other_tests() -> None:
    """With Playwright's event loop no other one can run."""
    run = Run(is_worker=False)
    page = "tests/e2e/test_pages_trace.py::test_a"
    run.test(page, "tests/e2e/test_pages_demo.py::test_a", WINDOWS)
    run.test(page, OTHER, WINDOWS)
    assert run.record == ["start", page, page, "end"]


def test_a_worker_ends_the_browser_before_other_tests_of_a_group() -> None:
    """Those of its fleet go on."""
    run, page = Run(is_worker=True), "tests/e2e/test_pages_nodes.py::test_a[three-nodes]"
    run.test(FIRST, page)
    run.test(page, SECOND, WINDOWS)
    assert run.record == ["start", FIRST, "start", page, "end"]
    run.test(SECOND, OTHER)
    assert run.record[5:] == [SECOND, "end"]


def test_an_interrupted_run_ends_them() -> None:
    run = Run(is_worker=True)
    run.test(FIRST, SECOND)
    run._shared.pytest_sessionfinish()
    assert run.record == ["start", FIRST, "end"]


def test_servers_that_fail_at_their_end_are_forgotten() -> None:
    """The last test of the group reports it, and no other."""

    @contextmanager
    def faulty() -> Iterator[None]:
        yield
        raise AssertionError("a traceback in the log")

    shared, item = SharedServers(is_worker=True), SimpleNamespace(nodeid=FIRST)
    shared.get("three nodes", faulty)
    with pytest.raises(AssertionError, match="a traceback"):
        shared.pytest_runtest_teardown(item, None)  # type: ignore[arg-type]
    shared.pytest_sessionfinish()
