"""How the tests are shared among the workers of pytest-xdist: each expensive fixture is started by one of them.

A file is given to a worker as a whole, since every order of the first process to a worker costs more than a short test.
The tests of files that take long are given one by one, so that all workers end together.

The mark `xdist_group` has no effect: xdist 3.8 writes the group to an attribute that pytest 9.2 does not read.
"""

import re
from collections.abc import Generator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

ROOT = Path(__file__).parents[1]
FLEETS = ("nodes-on-a-cluster", "three-nodes", "sqlite")
FIXTURES = dict(zip(("nodes_on_a_cluster", "three_nodes", "one_on_sqlite"), FLEETS, strict=True))
"""The group of the tests that use a fixture of the session."""
FLEET = re.compile(rf"\[(?:.*-)?({'|'.join(FLEETS)})(?:-.*)?\]")
"""In the name of a test that is given a shared server other than the usual one."""
SHARED = ('scope="module"', "redis: RedisServer")
"""In the source of a test file whose tests share a fixture."""
BROWSER = "browser"
ALL_IN_A_BROWSER = "pytestmark = pytest.mark.browser"
"""In the source of a test file whose tests share the browser, of which a start takes as long as five tests."""
LONGEST_FIRST = (
    *(
        "bench/test_engines",
        "redis/test_conformance",
        *FLEETS[:2],
        BROWSER,
    ),
    *(
        "examples/",
        "api/test_fuzz",
        "e2e/test_faults",
        "e2e/test_cut_lines",
        "test_packages",
        "test_image",
        "e2e/",
    ),
    *("test_supervisor", "bench/", "cli/test_bench", "clients/", "simulation/", "transports/test_attachment"),
)
"""Parts of the names of groups that take long; a long one that began last would run alone at the end."""


@cache
def _source(path: str) -> str:
    file = ROOT / path
    return file.read_text() if file.exists() else ""


@cache
def _is_shared(path: str) -> bool:
    return any(text in _source(path) for text in SHARED)


@cache
def _is_in_a_browser(path: str) -> bool:
    return path.startswith("tests/e2e/") and ALL_IN_A_BROWSER in _source(path)


def group_of(nodeid: str) -> str:
    """Return the tests that one worker runs with this one: of its fleet, its browser or its file; else its own name."""
    if found := FLEET.search(nodeid):
        return found[1]
    path = nodeid.partition("::")[0]
    if _is_in_a_browser(path):
        return BROWSER
    return path if _place(path) == len(LONGEST_FIRST) or _is_shared(path) else nodeid


def rank(nodeid: str) -> int:
    """Return when a test is to begin, as a sort key."""
    return _place(group_of(nodeid))


@cache
def _place(group: str) -> int:
    return next((place for place, part in enumerate(LONGEST_FIRST) if part in group), len(LONGEST_FIRST))


class Sharing(LoadScopeScheduling):
    """Gives whole groups to workers, in the order in which the tests were collected."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)

    def mark_test_complete(self, node: WorkerController, item_index: int, duration: float = 0) -> None:
        """Forget a group at its end: xdist counts the tests of all groups of a worker after every test."""
        super().mark_test_complete(node, item_index, duration)
        group = group_of(self.registered_collections[node][item_index])
        if all(self.assigned_work[node][group].values()):
            del self.assigned_work[node][group]


@dataclass(eq=False)  # Pluggy keeps plugins in sets.
class FleetEnds:
    """A plugin of a worker: a fleet ends with the last test of its group.

    Until the end of the run its servers would take 1.5 % of a processor for nothing.
    """

    _running: dict[str, tuple[pytest.FixtureDef[Any], Any]] = field(default_factory=dict)

    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any], request: Any) -> None:
        if group := FIXTURES.get(fixturedef.argname):
            self._running[group] = (fixturedef, request)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> Generator[None, object, object]:
        result = yield
        group = group_of(item.nodeid)
        if nextitem is not None and group_of(nextitem.nodeid) != group and group in self._running:
            fixturedef, request = self._running.pop(group)
            fixturedef.finish(request)
        return result
