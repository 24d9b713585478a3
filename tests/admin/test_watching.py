"""Watchers of the figures: their number and their time."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tests.engines.conformance import MovedClock, Setup
from tests.engines.test_memory import memory_engine

from channelstream.admin import watching
from channelstream.admin.key_uses import KeyTable, KeyUses
from channelstream.admin.panel import Panel
from channelstream.admin.sampler import Sampler
from channelstream.admin.watching import WATCHED_S, WATCHERS, Watching, pause_s
from channelstream.apps.app import App
from channelstream.apps.key_ring import KeyRing
from channelstream.core.hub import Hub
from channelstream.errors import Unavailable
from channelstream.http.refusals import RefusalTable
from channelstream.integrations.metrics.meter import Meter
from channelstream.service import Node, NodeLimits, Service
from channelstream.transports.streams import Streams
from channelstream.watchdog import Watchdog
from channelstream.wire.protocols import PROTOCOLS


async def watched_panel() -> tuple[Panel, Sampler]:
    clock = MovedClock()
    node = Node(
        memory_engine(Setup(clock)), Hub(PROTOCOLS.formats, lambda: None), clock, lambda: "id", NodeLimits()
    )
    await node.start()
    node.hub.deliveries = 7
    sampler = Sampler(node, Watchdog(0.1), Meter(lambda: 0))
    service = Service(App(), node)
    keys = KeyTable(service, KeyRing(), KeyUses(sampler.history, node.time_series, clock.wall))
    return Panel(service, cast(Streams, SimpleNamespace(open=2)), sampler, RefusalTable(), keys), sampler


def clock_of(sampler: Sampler) -> MovedClock:
    return cast(MovedClock, sampler._node.clock)


def test_watchers_are_bounded() -> None:
    """At the bound one more is refused; when one has gone there is room again."""

    async def main() -> None:
        panel, _ = await watched_panel()
        watchers: list[Any] = [panel.watch() for _ in range(WATCHERS)]
        for each in watchers:
            assert (await anext(each))["figures"]["deliveries"] == 7
        with pytest.raises(Unavailable):
            panel.watch()
        await watchers.pop().aclose()
        panel.watch()

    asyncio.run(main())


def test_watchers_that_have_not_begun_count() -> None:
    """Many concurrent requests are bounded too; one that leaves before it has begun makes room."""

    async def main() -> None:
        panel, _ = await watched_panel()
        watchers = [panel.watch() for _ in range(WATCHERS)]
        with pytest.raises(Unavailable):
            panel.watch()
        watchers.pop()
        panel.watch()

    asyncio.run(main())


def test_a_watcher_is_informed_of_each_sample_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of none that was taken before it came; the stream ends after its time."""
    monkeypatch.setattr(watching, "FIGURES_S", 0.001)
    monkeypatch.setattr(watching, "WATCHED_S", 3.0)

    async def main() -> list[int]:
        panel, sampler = await watched_panel()
        sampler.take(0.0)
        sampler.take(0.0)
        counts = []
        async for event in panel.watch():
            counts.append(event["new_samples"])
            sampler.take(0.0)
            clock_of(sampler).passed_s += 1.0
        return counts

    assert asyncio.run(main()) == [0, 1, 1]


def test_a_slow_reading_lengthens_no_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a node does not answer: the page must show its credentials again at its time."""
    monkeypatch.setattr(watching, "FIGURES_S", 0.001)

    async def main() -> int:
        clock = MovedClock()

        async def read() -> dict[str, Any]:
            clock.passed_s += WATCHED_S / 3
            return {}

        return len([each async for each in Watching(asyncio.Event(), clock.steady).watch(read)])

    assert asyncio.run(main()) == 3


@pytest.mark.parametrize(("taken_s", "expected"), [(0.0, 1.0), (0.25, 0.75), (2.0, 0.5)])
def test_a_page_is_sent_something_before_it_is_stale(taken_s: float, expected: float) -> None:
    """After at most 3 s, though a node that does not answer takes 2 s of each reading."""
    assert pause_s(taken_s) == expected


def test_a_stopped_server_has_no_watchers() -> None:
    """Watchers get the end at once, and no new one is accepted."""

    async def main() -> None:
        panel, sampler = await watched_panel()
        watcher = panel.watch()
        await anext(watcher)
        await sampler.stop()
        with pytest.raises(StopAsyncIteration):
            await anext(watcher)
        with pytest.raises(Unavailable):
            panel.watch()

    asyncio.run(main())
