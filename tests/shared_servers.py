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


class SharedServers:
    """A plugin of pytest that keeps servers for the tests of one group (`tests/sharing.py`).

    A single process runs the tests of all groups mixed, and keeps its servers until the end, but not the browser: while
    Playwright runs, its event loop is that of the process, and no test can have another one.
    """

    def __init__(self, is_worker: bool) -> None:
        self._is_worker = is_worker
        self._running: dict[str, Any] = {}
        self._ends = ExitStack()

    def get(self, name: str, start: Callable[[], AbstractContextManager[Shared]]) -> Shared:
        """Return the servers of this name, which are started if they do not run."""
        if name not in self._running:
            self._running[name] = self._ends.enter_context(start())
        running: Shared = self._running[name]
        return running

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_teardown(self, item: pytest.Item, nextitem: pytest.Item | None) -> None:
        """End them with the last test of a group; a worker has the whole group, and no test of it later."""
        group = group_of(item.nodeid)
        is_last = nextitem is None or group_of(nextitem.nodeid) != group
        if is_last and (nextitem is None or self._is_worker or group == BROWSER):
            self._end()

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """End them where the run was interrupted."""
        self._end()

    def _end(self) -> None:
        self._running.clear()
        self._ends.close()
