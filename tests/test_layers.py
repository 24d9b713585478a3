"""The architecture, proven from the source: imports point to the left only, and some units are pure."""

import ast
from pathlib import Path

import pytest
from tests.layers import (
    FILES,
    KEY_MAKERS,
    KNOW_NO_PROTOCOL,
    LAYERS,
    OF_NODES,
    ONE_PROTOCOL,
    PACKAGE,
    PORTS,
    PURE,
    imports,
    imports_of,
    impurities,
    known_units,
    module_of,
    package_of,
    rank,
    unit_of,
    violations,
)


@pytest.mark.slow
def test_imports_point_to_the_left() -> None:
    """No file imports what stands to its right, or beside it."""
    assert len(FILES) > 300
    assert [found for path in FILES for found in violations(module_of(path), imports_of(path).modules)] == []


def test_only_applications_make_keys() -> None:
    """The others get keys from an `App`, and names with `name_of`."""
    others = [path for path in FILES if unit_of(module_of(path)) != "apps"]
    assert [path for path in others if KEY_MAKERS & {name for _, name in imports_of(path).names}] == []


def test_the_api_reaches_nodes_through_services() -> None:
    """So no call can name anything of another application."""
    api = [path for path in FILES if unit_of(module_of(path)) == "api"]
    names = {
        name
        for path in api
        for module, name in imports_of(path).names
        if module.startswith(f"{PACKAGE}.service")
    }
    assert names <= OF_NODES
    assert [path for path in api if ".node." in path.read_text().replace(f"{PACKAGE}.service.", "")] == []


def test_each_module_takes_only_the_ports_that_it_needs() -> None:
    """`Node` takes the engine apart."""
    taken: dict[str, set[str]] = {name: set() for name in PORTS}
    for path in FILES:
        if unit_of(module_of(path)) not in ("engines", "bench.engines") and path.name != "__init__.py":
            for _, name in imports_of(path).names:
                if name in PORTS:
                    taken[name].add(module_of(path).removeprefix(f"{PACKAGE}."))
    assert taken == PORTS


@pytest.mark.slow
def test_pure_units_are_pure() -> None:
    """They have no async, no I/O, no clock and no randomness."""
    found = {module_of(path): impurities(path.read_text(encoding="utf-8"), module_of(path)) for path in PURE}
    assert {module for module, each in found.items() if each} == set(), found
    assert len(found) > 40


def test_what_serves_all_protocols_knows_none() -> None:
    """What a protocol needs of its own is in `wire`, and in modules with its name that nothing shared imports."""
    shared = [
        path
        for path in FILES
        if unit_of(module_of(path)) in KNOW_NO_PROTOCOL | {"core"} and ONE_PROTOCOL not in path.stem
    ]
    assert len(shared) > 100
    for path in shared:
        found = imports_of(path)
        named = [*found.modules, *(name for _, name in found.names)]
        assert [name for name in named if ONE_PROTOCOL in name] == [], path


def test_the_architecture_shows_the_layers() -> None:
    """In one line, as they are here; and it says of each unit what it is."""
    text = (Path(__file__).parents[1] / "ARCHITECTURE.md").read_text(encoding="utf-8")
    shown = next(line for line in text.splitlines() if line.startswith("faults | "))
    assert [set(units.split(" | ")) for units in shown.split(" <- ")] == [*LAYERS]
    paths = [unit.replace(".", "/") for unit in set().union(*LAYERS) - {"__main__"}]
    assert [path for path in paths if f"`{path}.py`" not in text and f"`{path}/`" not in text] == []


def test_every_unit_has_a_place() -> None:
    """Whatever is added to the package must be given its place in the order."""
    assert known_units() <= set().union(*LAYERS)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("channelstream.core.hub", "from channelstream.engines.base import Engine"),
        ("channelstream.core.hub", "from channelstream import service"),
        ("channelstream.core.batch", "from channelstream.wire.channelstream import item"),
        ("channelstream.core.hub", "import channelstream.service"),
        ("channelstream.core.hub", "from ..service import Node"),
        ("channelstream.core.hub", "from .. import service"),
        ("channelstream.engines.memory", "def late():\n    from channelstream.service import Node"),
        ("channelstream.transports.sse", "from channelstream.api.table import Endpoint"),
        ("channelstream.api.table", "from channelstream.transports import sse"),
        ("channelstream.pages.html", "from channelstream.service import Node"),
        ("channelstream.pages.access", "from channelstream.admin.panel import Panel"),
        ("channelstream.demo.app", "from channelstream.service import Node"),
        ("channelstream.demo.app", "from channelstream.api.schemas import Item"),
        ("channelstream.demo.app", "from channelstream.engines import base"),
        ("channelstream.demo.app", "from channelstream.config import Settings"),
        ("channelstream.explorer.page", "from channelstream.api.endpoints import ENDPOINTS"),
        ("channelstream.explorer.page", "from channelstream.admin.panel import Panel"),
        ("channelstream.integrations.metrics.meter", "from channelstream.pages.access import Gate"),
        ("channelstream.integrations.metrics.meter", "from channelstream.engines.base import Engine"),
        ("channelstream.service.node", "from channelstream.integrations.metrics.meter import Meter"),
        ("channelstream.api.info", "from channelstream.engines.base import Engine"),
        ("channelstream.http.router", "from channelstream.service import Service"),
        ("channelstream.http.router", "from channelstream.apps.app import App"),
        ("channelstream.config.loading", "from channelstream.api.table import Endpoint"),
        ("channelstream.tracing", "from channelstream.transports.streams import Streams"),
        ("channelstream.transports.attachment", "from channelstream.engines import base"),
        ("channelstream.admin.tables", "import channelstream.engines.memory"),
        ("channelstream.engines.base", "from channelstream.wire.channelstream import V07"),
        ("channelstream.service.node", "from channelstream.wire import protocols"),
        ("channelstream.errors", "from channelstream.core import events"),
        ("channelstream.server", "from channelstream.bench.load import Load"),
        ("channelstream.bench.worker", "from channelstream.core.entry import Entry"),
        ("channelstream.bench.worker", "from channelstream.bench.peers import nats"),
        ("channelstream.bench.worker", "from channelstream.bench import engines"),
        ("channelstream.bench.peers.nats", "from channelstream.bench.engines.stores import Store"),
        ("channelstream.bench.peers.ours", "import channelstream.server"),
        ("channelstream.server", "import channelstream.cli"),
        ("channelstream", "from channelstream.errors import Invalid"),
        ("channelstream.transports.sse", "from channelstream_client.protocol import LOST"),
        ("channelstream.server", "def late():\n    import channelstream_client.resuming"),
    ],
)
def test_planted_imports_are_caught(module: str, source: str) -> None:
    """The checker sees a wrong import in every spelling."""
    assert len(violations(module, imports(ast.parse(source), package_of(module)))) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("channelstream.core.hub", "from channelstream.core.entry import Entry\nimport json"),
        ("channelstream.core.hub", "from . import log"),
        ("channelstream.transports.sse", "from channelstream.service import Node"),
        ("channelstream.service.node", "from channelstream.engines.base import Engine"),
        ("channelstream.cli.serve", "from channelstream import __version__, logs"),
        ("channelstream.cli.listen", "from channelstream_client.resuming import ResumingClient"),
        ("channelstream.bench.engines.stores", "from channelstream.engines.redis.address import SLOTS"),
        ("channelstream.bench.peers.nats", "from channelstream.bench import load"),
    ],
)
def test_right_imports_pass(module: str, source: str) -> None:
    """The checker has no objection to imports that point to the left."""
    assert violations(module, imports(ast.parse(source), package_of(module))) == []


@pytest.mark.parametrize(
    "source",
    [
        "import time",
        "import sqlite3",
        "from os.path import join",
        "from importlib import import_module",
        "from urllib.request import urlopen",
        "def late():\n    import httpx",
        "from uuid import uuid4",
        "async def deliver(): ...",
        "started = datetime.now(UTC)",
        "text = open('history')",
    ],
)
def test_planted_impurities_are_caught(source: str) -> None:
    """The checker sees the clock, randomness, I/O and async."""
    assert len(impurities(source)) == 1


def test_unplaced_unit_is_refused() -> None:
    """A unit without a layer is an error, not a hole."""
    with pytest.raises(LookupError, match="LAYERS"):
        rank("utils")
