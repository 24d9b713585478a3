"""The history: what is written of the samples, and what is read of all nodes."""

import asyncio
import itertools
import time
from collections.abc import Sequence

import msgspec
import pytest
from tests.turns import turns_of_others
from tests.waiting import soon

from channelstream.admin.history import HOUR, MARKS, PENDING, RANGES, History
from channelstream.admin.sample import Sample, over_nodes, over_time, quantile_ms
from channelstream.admin.series import ENDINGS, SERIES, numbered, row_of
from channelstream.engines.time_series import LocalTimeSeries, Record
from channelstream.errors import Unavailable
from channelstream.integrations.metrics.meter import BUCKETS_S

BEGIN_S = 1_000_200.0
"""Of an interval of every range."""


class Wall:
    """A wall clock that a test sets."""

    def __init__(self) -> None:
        self.now_s = BEGIN_S

    def __call__(self) -> float:
        return self.now_s


class Refusing(LocalTimeSeries):
    """Series of an engine that is out of reach now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.is_reachable = False
        self.asked = 0

    async def append(self, series: str, record: Record, keep_s: float) -> None:
        self.asked += 1
        if not self.is_reachable:
            raise Unavailable("out of reach")
        await super().append(series, record, keep_s)


def sample(at_s: float, connections: float = 10, **more: object) -> Sample:
    given = {"deliveries": 100.0, "published": 5.0, "delay_ms": 1.0, "stalls": 0, "memory_bytes": 1e6}
    return Sample(at_s=at_s, connections=connections, **(given | {"seconds": 5.0} | more))  # type: ignore[arg-type]


def latency(**counts: int) -> list[int]:
    """Counts by the number of the bucket, such as `b3=7`."""
    return [counts.get(f"b{number}", 0) for number in range(len(BUCKETS_S) + 1)]


def test_a_sample_of_a_longer_time_is_the_average() -> None:
    """The longest delay, and the sums of what is counted."""
    one = sample(
        60.0, 10, seconds=5.0, delay_ms=3.0, stalls=1, lost=5, written=6.0, latency=latency(b0=1, b2=5)
    )
    other = sample(65.0, 40, seconds=2.5, delay_ms=7.0, stalls=2, latency=latency(b2=1))
    merged = over_time(60.0, [one, other])
    assert (merged.at_s, merged.seconds, merged.connections) == (60.0, 7.5, 20.0)
    assert (merged.lost, merged.written) == (5, 4.0)
    assert (merged.delay_ms, merged.stalls, merged.latency) == (7.0, 3, latency(b0=1, b2=6))


def test_a_node_counts_for_the_part_that_it_measured() -> None:
    """One that measured for half of the interval counts for half, as one that was restarted."""
    before, after = sample(60.0, 100, seconds=30.0), sample(60.0, 100, seconds=30.0)
    other = sample(60.0, 50, seconds=60.0)
    assert over_nodes([before, after, other], 60.0).connections == 150.0


def test_a_node_counts_once_for_a_longer_time() -> None:
    """Its timer was late, so its sample is of more than an interval."""
    late, other = sample(60.0, 100, seconds=90.0), sample(60.0, 50, seconds=60.0)
    assert over_nodes([late, other], 60.0).connections == 150.0


@pytest.mark.parametrize(
    ("counts", "part", "expected"),
    [
        ([], 0.5, None),
        (latency(), 0.99, None),
        (latency(b0=4), 0.5, 0.25),
        (latency(b0=50, b2=50), 0.5, 0.5),
        (latency(b0=50, b2=50), 0.75, 1.75),
        (latency(b0=99, b13=1), 0.999, 5000.0),
    ],
)
def test_a_quantile_is_interpolated(counts: Sequence[int], part: float, expected: float | None) -> None:
    assert quantile_ms(counts, part) == expected


def test_each_range_has_its_intervals() -> None:
    """An interval is shown when it has ended at every node."""

    async def main() -> None:
        wall = Wall()
        history = History(LocalTimeSeries(), wall, time.monotonic)
        for number in range(131):
            wall.now_s = BEGIN_S + 5.0 * (number + 1)
            history.add(sample(BEGIN_S + 5.0 * number, connections=number))
        await history.flush()
        wall.now_s += 3.0
        hour = await history.read("hour")
        assert [row[:2] for row in hour] == [[BEGIN_S + 5.0 * number, number] for number in range(131)]
        assert [row[:2] for row in await history.read("hour", since_s=BEGIN_S + 640.0)] == [
            [BEGIN_S + 645.0, 129],
            [BEGIN_S + 650.0, 130],
        ]
        day = await history.read("day")
        assert [row[0] for row in day] == [BEGIN_S + 60.0 * number for number in range(10)]
        assert [row[1] for row in day][:2] == [round(5.5), round(17.5)]
        assert [row[0] for row in await history.read("week")] == [BEGIN_S]

    asyncio.run(main())


def test_a_sample_of_no_time_is_left_out() -> None:
    """As of a server that stops right after a sample."""

    async def main() -> None:
        history = History(LocalTimeSeries(), wall := Wall(), time.monotonic)
        history.add(sample(BEGIN_S, seconds=0.0))
        await history.flush()
        wall.now_s += 8.0
        assert await history.read("hour") == []

    asyncio.run(main())


def test_the_history_of_two_nodes_is_one() -> None:
    async def main() -> None:
        wall, series = Wall(), LocalTimeSeries()
        nodes = [History(series, wall, time.monotonic), History(series, wall, time.monotonic)]
        for each in nodes:
            each.add(sample(BEGIN_S, latency=latency(b3=100)))
            await each.flush()
        wall.now_s += 8.0
        [row] = await nodes[0].read("hour")
        assert row[:12] == [BEGIN_S, 20, 200.0, 10.0, 1.0, 0, 2_000_000, 0.0, 0.0, 3.75, 4.88, 4.98]

    asyncio.run(main())


def test_what_an_engine_out_of_reach_does_not_take_is_written_later() -> None:
    """In order, and no more of it waits than the bound."""

    async def main() -> None:
        wall, series = Wall(), Refusing()
        history = History(series, wall, time.monotonic)
        for number in range(PENDING + 10):
            history.add(sample(BEGIN_S + 5.0 * number))
        await soon(lambda: series.asked > 0)
        series.is_reachable = True
        history.mark("start", "again")
        await history.flush()
        wall.now_s = BEGIN_S + 5.0 * (PENDING + 20)
        found = [row[0] for row in await history.read("hour")]
        assert found == sorted(found)
        assert found[-1] == BEGIN_S + 5.0 * (PENDING + 9)
        assert [(mark.kind, mark.text) for mark in await history.marks("week")] == [("start", "again")]

    asyncio.run(main())


class Broken(LocalTimeSeries):
    """Has a fault with one record."""

    async def append(self, series: str, record: Record, keep_s: float) -> None:
        if b"broken" in record.data:
            raise ValueError("a fault of the engine")
        await super().append(series, record, keep_s)


def test_what_an_engine_cannot_keep_holds_up_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """It is left out, and the log has the error."""

    async def main() -> None:
        history = History(Broken(), Wall(), time.monotonic)
        for text in ("first", "broken", "last"):
            history.mark("start", text)
        await history.flush()
        assert [mark.text for mark in await history.marks("week")] == ["first", "last"]

    asyncio.run(main())
    [logged] = caplog.records
    assert "'marks'" in logged.getMessage()
    assert logged.exc_info is not None


def test_the_end_does_not_wait_for_an_engine_out_of_reach() -> None:
    async def main() -> None:
        history = History(Refusing(), Wall(), time.monotonic)
        history.add(sample(BEGIN_S))
        await history.flush()

    asyncio.run(main())


def test_marks_are_those_of_the_range() -> None:
    async def main() -> None:
        wall = Wall()
        history = History(LocalTimeSeries(), wall, time.monotonic)
        history.mark("start", "x" * 1000)
        wall.now_s += HOUR.kept_s + 1.0
        history.mark("upgrade", "two")
        await history.flush()
        assert [mark.kind for mark in await history.marks("hour")] == ["upgrade"]
        [first, second] = await history.marks("day")
        assert (len(first.text), second.text) == (200, "two")

    asyncio.run(main())


def test_a_record_of_another_version_is_left_out() -> None:
    """A sample with more figures is read all the same."""

    async def main() -> None:
        wall, series = Wall(), LocalTimeSeries()
        history, name = History(series, wall, time.monotonic), "figures of hour"
        more = [*msgspec.to_builtins(sample(BEGIN_S)), "new"]
        for data in (b"\xff", msgspec.msgpack.encode([1]), msgspec.msgpack.encode(more)):
            await series.append(name, Record(BEGIN_S, data), HOUR.kept_s)
        await series.append(MARKS, Record(BEGIN_S, b"[]"), HOUR.kept_s)
        wall.now_s += 8.0
        assert [row[1] for row in await history.read("hour")] == [10]
        assert await history.marks("hour") == []

    asyncio.run(main())


def test_groups_of_endings_are_sent_once() -> None:
    """Rows have their numbers."""
    found = [row_of(sample(BEGIN_S, endings=endings)) for endings in ({"a": 1, "b": 2}, {}, {"c": 3, "b": 4})]
    assert [row[list(SERIES).index("ended")] for row in found] == [3, 0, 7]
    assert numbered(found) == ["a", "b", "c"]
    assert [row[ENDINGS] for row in found] == [[(0, 1), (1, 2)], [], [(2, 3), (1, 4)]]


def test_a_sample_of_an_older_version_lacks_what_it_did_not_measure() -> None:
    """The first fields are those of the first version; the others are empty."""

    async def main() -> None:
        wall, series = Wall(), LocalTimeSeries()
        first = msgspec.to_builtins(sample(BEGIN_S))[:8]
        await series.append("figures of hour", Record(BEGIN_S, msgspec.msgpack.encode(first)), HOUR.kept_s)
        wall.now_s += 8.0
        [row] = await History(series, wall, wall).read("hour")
        shown = dict(zip(SERIES, row, strict=True))
        assert (shown.pop("connections"), shown.pop("endings")) == (10, {})
        assert set(list(shown.values())[7:]) == {0, None}

    asyncio.run(main())


def test_latencies_in_other_buckets_are_left_out() -> None:
    """As of a version that measures them otherwise; the other figures count."""

    async def main() -> None:
        wall, series = Wall(), LocalTimeSeries()
        histories = [History(series, wall, wall) for _ in range(2)]
        for each, counts in zip(histories, (latency(b3=100), [1, 2, 3]), strict=True):
            each.add(sample(BEGIN_S, latency=counts))
            await each.flush()
        wall.now_s += 8.0
        [row] = await histories[0].read("hour")
        assert (row[1], row[9]) == (20, 3.75)

    asyncio.run(main())


def test_every_range_has_a_bounded_number_of_rows() -> None:
    assert {name: each.kept_s / each.interval_s for name, each in RANGES.items()} == {
        "hour": 720,
        "day": 1440,
        "week": 1008,
    }


def test_a_long_history_is_read_in_short_turns() -> None:
    """Other work runs in between."""

    async def main() -> None:
        wall, series = Wall(), LocalTimeSeries()
        day, begin_s = RANGES["day"], BEGIN_S - RANGES["day"].kept_s + 60.0
        for number in range(1430):
            at_s = begin_s - begin_s % 60.0 + 60.0 * number
            data = msgspec.msgpack.encode(sample(at_s, latency=latency(b3=1), seconds=60.0))
            for _ in range(10):
                await series.append("figures of day", Record(at_s, data), day.kept_s)
        ticks = itertools.count()
        history = History(series, wall, lambda: next(ticks) / 1000)
        rows, turns = await turns_of_others(history.read("day"))
        assert (len(rows) > 1000, turns > 50) == (True, True)

    asyncio.run(main())
