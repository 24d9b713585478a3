"""The figures of the shared engine: every part of `channelstream.bench.engines` in small numbers, and its failures."""

import asyncio
import json
import logging
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache
from io import StringIO
from math import isfinite
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from tests.forked_programs import forked_programs

from channelstream.bench.checker import Faults
from channelstream.bench.engines.__main__ import main
from channelstream.bench.load import BenchFailed
from channelstream.bench.orders import Result

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
TABLES = {
    "engines": ["engines"],
    "nodes": ["nodes-calls", "nodes-fanout", "nodes-paced"],
    "operations": ["operations", "operations-16-shards", "shares"],
    "presence": ["presence", "presence-connect", "memory"],
    "listeners": ["listeners"],
    "recovery": ["recovery"],
    "scripts": ["scripts"],
}
"""With `--quick`, which measures a cluster with one number of shards only."""
IN_A_PROCESS = "listeners"
"""The part that is measured by `python -m` of the program, with interpreters of their own for all that it starts."""
PAGE = "Before.\n\n<!-- engines: listeners -->\n| old |\n| old |\n\nBehind, <!-- engines: no -->\n"
"""A page that is filled in with the figures of each part."""
MAY_BE_NOTHING = re.compile(
    "CPU|%|nodes|Redis|clients|publishers|second|least|^of|shard|commands|^longest script|^median|^scripts|^together|^pages"
)
"""In so short a time: what clocks and the kernel's ticks did not notice. An operation may need no script, or no pages."""


def run(folder: str, *flags: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "channelstream.bench.engines", "--quick", "--output", folder, *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


def run_here(folder: str, *flags: str) -> "subprocess.CompletedProcess[str]":
    """Run it in this process, with forks for what it starts."""
    argv = ["--quick", "--output", folder, *flags]
    out, err = StringIO(), StringIO()
    logger = logging.getLogger("channelstream")
    level = logger.level
    try:
        with redirect_stdout(out), redirect_stderr(err), forked_programs():
            code = main(argv)
    finally:
        logger.setLevel(level)
    return subprocess.CompletedProcess(argv, code, out.getvalue(), err.getvalue())


@dataclass(frozen=True, slots=True)
class Measured:
    """A part that was measured.

    Attributes:
        page: what has become of `PAGE`.
    """

    tables: list[dict[str, Any]]
    page: str


@pytest.fixture(scope="module")
def measured() -> Callable[[str], Measured]:
    """Return the figures of a part, which is measured once for all tests."""
    return cache(measure)


def measure(part: str) -> Measured:
    """Measure in this process, and `IN_A_PROCESS` with the command."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        page = folder / "page.md"
        page.write_text(PAGE)
        flags = ("--only", part, "--into", str(page))
        done = (run if part == IN_A_PROCESS else run_here)(name, *flags)
        assert done.returncode == 0, done.stderr
        document = json.loads((folder / "engines.json").read_bytes())
        assert (folder / "engines.md").read_text() == done.stdout
        return Measured(document["tables"], page.read_text())


needs_redis = pytest.mark.skipif(shutil.which("redis-server") is None, reason="no redis-server on the PATH")


@needs_redis
@pytest.mark.parametrize("part", TABLES)
def test_tables_are_complete(part: str, measured: Any) -> None:
    """Every table of a part is there, and every row has all its figures."""
    tables = measured(part).tables
    assert [table["id"] for table in tables] == TABLES[part]
    for table in tables:
        assert table["rows"]
        for row in table["rows"]:
            figures = dict(zip(table["columns"], row["figures"], strict=True))
            nothing = [name for name, figure in figures.items() if not isfinite(figure) or figure <= 0]
            assert all(MAY_BE_NOTHING.search(name) for name in nothing), (table["id"], row["name"], nothing)


@needs_redis
def test_the_page_shows_tables_of_the_program(measured: Any) -> None:
    """Each table that docs/scaling.md marks has the columns of the table the program makes."""
    from channelstream.bench.engines.operations import id_of
    from channelstream.bench.engines.reckoning import estimates
    from channelstream.bench.engines.sizes import FULL, QUICK
    from channelstream.bench.engines.table import Row, Table

    tables = {
        each["id"]: Table(each["id"], each["title"], each["columns"], [Row(**row) for row in each["rows"]])
        for part in TABLES
        for each in measured(part).tables
    }
    # One table of a cluster is made as the other.
    tables |= {id_of(shards): tables[id_of(QUICK.shards[0])] for shards in FULL.shards}
    # Where the kernel's ticks have noticed nothing, nothing could be divided by it.
    tables |= {table.id: table for table in estimates(tables)}
    page = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    marked = re.findall(r"^<!-- engines: (\S+) -->\n(.*)$", page, re.MULTILINE)
    assert {name for name, _ in marked} >= {"head", "engines", "nodes-fanout", "operations", "limits"}
    for name, first in marked:
        if name != "head":
            assert first == f"| | {' | '.join(tables[name].columns)} |", name


@needs_redis
def test_a_page_is_filled_in(measured: Any) -> None:
    """A marked table is replaced up to the next empty line; the rest stays."""
    text = measured("listeners").page
    assert "old" not in text
    assert text.startswith("Before.\n\n<!-- engines: listeners -->\n| | script calls |")
    assert text.endswith(" |\n\nBehind, <!-- engines: no -->\n")


def test_a_part_that_fails_ends_the_run(tmp_path: Path) -> None:
    """With a sentence and an exit code, and no figures."""
    done = run(str(tmp_path), "--only", "recovery", env={"PATH": str(tmp_path)})
    assert (done.returncode, done.stdout) == (1, "")
    assert "no redis-server is on the PATH" in done.stderr
    assert not list(tmp_path.iterdir())


def test_unknown_parts_are_refused(tmp_path: Path) -> None:
    """By name."""
    done = run_here(str(tmp_path), "--only", "recovery,rest")
    assert (done.returncode, done.stderr) == (2, "Unknown in --only: rest.\n")


@pytest.mark.parametrize("fault", [{"lost": 1}, {"faults": Faults(out_of_order=1)}, {"closed": {"4008": 1}}])
def test_figures_of_a_lossy_run_are_refused(fault: dict[str, Any]) -> None:
    """Something lost, out of order or cut off ends the run."""
    from channelstream.bench.engines.crowd import check

    right = {"received": 1, "lost": 0, "bytes": 1, "faults": Faults(), "closed": {}, "counts": {}}
    figures = {"max_ns": 1, "last_ns": 1, "cpu_s": 0.0}
    check([Result(**right, **figures)])
    with pytest.raises(BenchFailed, match="lost, duplicated or out of order"):
        check([Result(**(right | fault), **figures)])


def test_the_many_clients_must_have_received_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither more nor less than was sent to them."""
    from channelstream.bench.engines import crowd

    monkeypatch.setattr(crowd, "QUIET_S", 0.01)

    async def check(received: int) -> None:
        await crowd.until_all(crowd.Sink(None, 10, received), 20)  # type: ignore[arg-type]

    asyncio.run(check(20))
    for received, message in ((19, "did not receive 1 messages"), (21, "1 messages twice")):
        with pytest.raises(BenchFailed, match=message):
            asyncio.run(check(received))


def test_medians_have_three_digits() -> None:
    """More would be noise on a shared machine."""
    from channelstream.bench.engines.table import grid, medians

    table = medians("some", "Some.", {"a": [{"µs": 1.23456, "/s": 123456.7}] * 2 + [{"µs": 9.0, "/s": 0.0}]})
    assert grid(table) == "| | µs | /s |\n| --- | --: | --: |\n| a | 1.23 | 123,457 |"


def test_masters_have_no_ports_that_connections_get() -> None:
    """Nor have their cluster buses; and none that is in use."""
    from channelstream.bench.engines import stores

    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    taken, *others = stores.free_ports(len(stores.PORTS))
    assert others
    assert all(port + 10_000 < lowest for port in (taken, *others))
    with socket.create_server(("127.0.0.1", taken + 10_000)):
        assert taken not in stores.free_ports(len(stores.PORTS))
