"""Servers, and a browser, that many tests share: the first test that needs them starts them, and they end when no test needs
them any more.

A server that only waits takes 0.4 % of a processor, a fleet with its Redis 1.5 %, and its tests take a fifth of a run.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any, TypeVar

import pytest
from tests.sharing import BROWSER, group_of

Shared = TypeVar("Shared")
WINDOWS = "windows"
"""The name of the browser among the servers, and of the fixture of the tests that need it."""


class SharedServers:
    """A plugin of pytest that keeps servers for the tests of one group (`tests/sharing.py`).

    A single process runs the tests of all groups mixed, and keeps its servers until the end, but not the browser: while
    Playwright runs, its event loop is that of the process, and no test can have another one. So the browser ends as soon
    as the next test neither needs it nor is in the group of those that share it.
    """

    def __init__(self, is_worker: bool) -> None:
        self._is_worker = is_worker
        self._running: dict[str, Any] = {}
        self._ends = ExitStack()
        self._browser_ends = ExitStack()

    def get(self, name: str, start: Callable[[], AbstractContextManager[Shared]]) -> Shared:
        """Return the servers of this name, which are started if they do not run."""
        if name not in self._running:
            ends = self._browser_ends if name == WINDOWS else self._ends
            self._running[name] = ends.enter_context(start())
        running: Shared = self._running[name]
        return running

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_teardown(self, item: pytest.Item, nextitem: pytest.Item | None) -> None:
        """End them with the last test of a group; a worker has the whole group, and no test of it later."""
        if nextitem is None or not _is_in_a_browser(nextitem):
            self._running.pop(WINDOWS, None)
            self._browser_ends.close()
        group = group_of(item.nodeid)
        is_last = nextitem is None or group_of(nextitem.nodeid) != group
        if is_last and (nextitem is None or self._is_worker):
            self._end()

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """End them where the run was interrupted."""
        self._end()

    def _end(self) -> None:
        self._running.clear()
        self._browser_ends.close()
        self._ends.close()


def _is_in_a_browser(item: pytest.Item) -> bool:
    return WINDOWS in getattr(item, "fixturenames", ()) or group_of(item.nodeid) == BROWSER
