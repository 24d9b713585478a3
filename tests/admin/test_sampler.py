"""The samples of the figures of a node."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from channelstream.admin.sample import Sample, over_nodes, over_time, quantile_ms
from channelstream.admin.sampler import Sampler
from channelstream.core.endings import Ending, Endings
from channelstream.core.frequent import Frequent
from channelstream.core.node_status import NodeStatus
from channelstream.core.rounds import Written
from channelstream.engines.time_series import LocalTimeSeries
from channelstream.integrations.metrics.meter import Meter
from channelstream.service import Node
from channelstream.watchdog import Watchdog


class MovedClock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def steady(self) -> float:
        return self.now_s

    def wall(self) -> float:
        return 1_000_000.0 + self.now_s


def counters() -> Any:
    """The counters that a sampler reads from a node."""
    hub = SimpleNamespace(deliveries=0, connections={}, written=Written(), busiest=Frequent())
    return SimpleNamespace(
        clock=MovedClock(), hub=hub, published=0, stalls=0, local=SimpleNamespace(endings=Endings()),
        time_series=LocalTimeSeries(), engine_name="redis", is_engine_reachable=True, busiest=Frequent(),
    )  # fmt: skip


def test_a_sample_is_what_happened_since_the_last() -> None:
    """Counters become rates over the time that has passed; stalls stay a number."""
    node = counters()
    sampler = Sampler(cast(Node, node), Watchdog(0.1), Meter(lambda: 0))
    node.hub.deliveries, node.published, node.stalls, node.clock.now_s = 1000, 50, 3, 110.0
    first = sampler.take(0.0125)
    node.hub.connections["a"] = None
    node.clock.now_s = 115.0
    second = sampler.take(0.0)
    assert (first.deliveries, first.published, first.stalls, first.delay_ms) == (100.0, 5.0, 3, 12.5)
    assert (second.deliveries, second.published, second.stalls, second.connections) == (0.0, 0.0, 0, 1)
    assert (second.at_s, second.seconds, second.memory_bytes > 0) == (1_000_110.0, 5.0, True)
    assert first.seconds == 10.0


def test_refused_requests_and_the_latency_of_writes_are_sampled() -> None:
    """Each sample has what came since the last one."""
    node, meter = counters(), Meter(lambda: writes)
    sampler = Sampler(cast(Node, node), Watchdog(0.1), meter)
    writes = 3
    meter.written(0.002)
    for status in (200, 401, 422):
        meter.requests["/message", status] = 1
    node.clock.now_s += 5.0
    first = sampler.take(0.0)
    node.clock.now_s += 5.0
    second = sampler.take(0.0)
    assert (first.refused, sum(first.latency), quantile_ms(first.latency, 0.5)) == (0.4, 3, 1.75)
    assert (second.refused, sum(second.latency)) == (0.0, 0)


def test_what_arrived_is_sampled() -> None:
    """Events and bytes that were written, replayed and lost, since the last sample."""
    node, meter = counters(), Meter(lambda: 0)
    sampler = Sampler(cast(Node, node), Watchdog(0.1), meter)
    node.hub.written.add(10, 5000)
    meter.replayed, meter.lost, sampler.taken.dropped = 20, 3, 500
    node.clock.now_s += 5.0
    first = sampler.take(0.0)
    node.clock.now_s += 5.0
    second = sampler.take(0.0)
    assert (first.written, first.taken_bytes, first.replayed) == (2.0, 900.0, 4.0)
    assert (first.lost, first.dropped_bytes) == (3, 500)
    assert (second.written, second.taken_bytes, second.lost, second.dropped_bytes) == (0.0, 0.0, 0, 0)


def test_the_calls_of_the_engine_are_sampled() -> None:
    """Their time, those that failed, and how long it was out of reach."""

    async def main() -> tuple[Sample, Sample]:
        node, meter = counters(), Meter(lambda: 0)
        sampler = Sampler(cast(Node, node), Watchdog(0.1), meter)
        meter.engine.latency.observe(0.002, 4)
        meter.engine.failed["publish"] += 3
        node.is_engine_reachable = False
        sampler.engine.look()
        node.clock.now_s += 5.0
        sampler.engine.look()
        first = sampler.take(0.0)
        node.clock.now_s += 5.0
        return first, sampler.take(0.0)

    first, second = asyncio.run(main())
    assert (quantile_ms(first.engine_latency, 0.5), first.engine_failed, first.engine_away_s) == (
        1.75,
        3,
        5.0,
    )
    assert (sum(second.engine_latency), second.engine_failed, second.engine_away_s) == (0, 0, 0.0)
    assert 0 < first.descriptors < first.descriptor_limit
    assert over_time(0.0, [first, first]).engine_away_s == 10.0
    assert over_nodes([first, first], 5.0).engine_away_s == 5.0


def test_endings_are_sampled_by_their_reason() -> None:
    """Those since the last sample, of connections and of streams alone."""
    node = counters()
    sampler = Sampler(cast(Node, node), Watchdog(0.1), Meter(lambda: 0))
    for final in (True, False, False):
        node.local.endings.add(Ending(0.0, "a", "ann", None, "the line was lost", final))
    node.clock.now_s += 5.0
    first = sampler.take(0.0)
    node.local.endings.add(Ending(0.0, "a", "ann", 4008, "too slow", final=False))
    node.clock.now_s += 5.0
    second = sampler.take(0.0)
    assert first.endings == {"none connection the line was lost": 1, "none stream the line was lost": 2}
    assert second.endings == {"4008 stream too slow": 1}
    assert over_time(0.0, [first, second, second]).endings["4008 stream too slow"] == 2


def test_a_late_timer_belongs_to_the_interval_that_it_measured() -> None:
    """The one in which the middle of its time is; one that is early does not count twice in the one before."""
    node = counters()
    sampler = Sampler(cast(Node, node), Watchdog(0.1), Meter(lambda: 0))
    begins = []
    for passed_s in (5.0, 6.2, 3.8, 4.9, 5.1, 8.0, 2.0):
        node.clock.now_s += passed_s
        begins.append(sampler.take(0.0).at_s - 1_000_100.0)
    assert begins == [0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0]


def test_the_last_sample_belongs_to_the_interval_in_which_it_is_taken() -> None:
    """However short it is: the interval before has its whole sample."""
    node = counters()
    sampler = Sampler(cast(Node, node), Watchdog(0.1), Meter(lambda: 0))
    node.clock.now_s += 5.0
    sampler.take(0.0)
    node.clock.now_s += 1.5
    last = sampler.take(0.0)
    assert (last.at_s - 1_000_100.0, last.seconds) == (5.0, 1.5)


@pytest.mark.parametrize(
    ("wall_s", "expected"), [(0.0, 5.0), (0.001, 4.999), (4.999, 5.001), (2.6, 2.4), (4.6, 5.4)]
)
def test_samples_are_taken_where_intervals_begin(wall_s: float, expected: float) -> None:
    """Never twice for one interval, though a timer is early."""
    node = counters()
    node.clock.now_s = wall_s
    sampler = Sampler(cast(Node, node), Watchdog(0.1), Meter(lambda: 0))
    assert sampler._until_next_s() == pytest.approx(expected, abs=1e-6)


def test_what_was_measured_so_far_is_saved_before_another_process_takes_over() -> None:
    """Also of the longer intervals, which have not ended; what follows is added to it."""

    async def main() -> None:
        node = counters()
        node.clock.now_s = 80.0  # The begin of a minute, since the wall clock is ahead by 1,000,000 s.
        sampler = Sampler(cast(Node, node), Watchdog(0.1), Meter(lambda: 0))
        node.clock.now_s, node.published = 110.0, 60
        await sampler.save()
        records = await node.time_series.read("figures of day", 0.0)
        node.clock.now_s, node.published = 140.0, 120
        await sampler.save()
        node.clock.now_s = 210.0
        [row] = await sampler.history.read("day")
        assert (len(records), row[0], row[3]) == (1, 1_000_080.0, 2.0)

    asyncio.run(main())


def test_what_was_measured_last_is_saved_at_the_stop() -> None:
    """With the mark of it."""

    async def main() -> None:
        node = counters()
        node.clock.now_s = 80.0
        sampler = Sampler(cast(Node, node), Watchdog(0.1), Meter(lambda: 0))
        sampler.start()
        node.clock.now_s, node.published = 110.0, 60
        await sampler.stop("stop", "1.0")
        assert len(await node.time_series.read("figures of day", 0.0)) == 1
        assert [mark.kind for mark in await sampler.history.marks("hour")] == ["start", "stop"]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("connections", "ended", "became"),
    [
        (7, 3, "3 of its connections did not come back"),
        (7, None, "it had 7 connections"),
        (1, None, "it had 1 connection"),
    ],
)
@pytest.mark.parametrize("was_stopped", [False, True])
def test_the_end_of_a_node_is_marked(
    connections: int, ended: int | None, became: str, was_stopped: bool
) -> None:
    """With what became of its connections, or how many they were where that is not known."""

    async def main() -> None:
        node = counters()
        sampler = Sampler(cast(Node, node), Watchdog(0.1), Meter(lambda: 0))
        sampler.node_died(
            NodeStatus("id", "one", connections, node.clock.wall() - 6.0, False, was_stopped), ended
        )
        await sampler.history.flush()
        [mark] = await sampler.history.marks("hour")
        how = "was stopped" if was_stopped else "was silent for 6 s"
        assert (mark.kind, mark.text) == ("node gone", f"one {how}; {became}")

    asyncio.run(main())


def test_it_samples_by_itself_until_it_is_stopped() -> None:
    """Once started it takes samples; stopping ends its task and wakes its waiters."""

    async def main() -> Sampler:
        sampler = Sampler(cast(Node, counters()), Watchdog(0.1), Meter(lambda: 0), sample_s=0.002)
        sampler.start()
        while sampler.count < 2:
            await asyncio.sleep(0)
        await sampler.stop()
        return sampler

    assert asyncio.run(main()).stopped.is_set()
