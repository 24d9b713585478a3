"""Dashboards beside a load, in small numbers."""

import re
from importlib.resources import files

import pytest
import uvloop
from tests.waiting import soon

from channelstream.admin.watching import WATCHERS
from channelstream.bench import dashboards
from channelstream.bench.load import BenchFailed
from channelstream.bench.servers import product


def test_a_dashboard_fetches_what_the_page_fetches() -> None:
    """So a table that is added to the page is measured."""
    script = (files("channelstream.admin") / "static" / "overview.js").read_text()
    assert sorted(re.findall(r"/data/(\w+)", script)) == sorted([*dashboards.TABLES, "history"])


@pytest.mark.slow
@pytest.mark.usefixtures("bench_forks")
def test_each_dashboard_reads_the_stream_and_the_tables() -> None:
    """So no cost is measured of pages that receive nothing; what they have of the history they do not read again."""

    async def read() -> None:
        async with product() as target, dashboards.opened(target.wire, 2) as pages:
            await soon(lambda: all(page.reads > 2 and page.events > 1 and page.bytes > 0 for page in pages))
            assert target.cpu_s()

    uvloop.run(read())


@pytest.mark.slow
@pytest.mark.usefixtures("bench_forks")
def test_a_refused_dashboard_fails_the_run() -> None:
    """More than the server serves at once do not count as cheap ones."""

    async def refused() -> None:
        async with product() as target, dashboards.opened(target.wire, WATCHERS + 1):
            pass

    with pytest.raises(BenchFailed, match="answered 503"):
        uvloop.run(refused())
