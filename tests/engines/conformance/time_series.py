"""What every `TimeSeries` must do."""

from tests.engines.conformance.lab import Lab

from channelstream.engines.time_series import RECORD_BYTES, Record

HOUR_S = 3600.0


def test_records_are_read_from_a_time_on(lab: Lab) -> None:
    """That time included, oldest first; equal records stay several, and another series has none."""
    series = lab.engine.time_series
    records = [Record(100.5, b"a"), Record(101.0, b"\xff\x00"), Record(101.0, b"b"), Record(102.0, b"b")]
    for record in records:
        lab.run(series.append("minutes", record, HOUR_S))
    assert sorted(lab.run(series.read("minutes", 0.0))) == sorted(records)
    assert [each.at_s for each in lab.run(series.read("minutes", 0.0))] == [100.5, 101.0, 101.0, 102.0]
    assert sorted(lab.run(series.read("minutes", 101.0))) == sorted(records[1:])
    assert lab.run(series.read("minutes", 0.0, limit=1)) == records[3:]
    assert lab.run(series.read("minutes", 102.5)) == []
    assert lab.run(series.read("hours", 0.0)) == []


def test_several_records_are_added_at_once(lab: Lab) -> None:
    """Beside others, and what is too old is dropped."""
    series, records = lab.engine.time_series, [Record(100.0, b"%d" % number) for number in range(30)]
    lab.run(series.append("minutes", Record(10.0, b"old"), HOUR_S))
    lab.run(series.append("minutes", Record(50.0, b"kept"), HOUR_S))
    lab.run(series.append_all("minutes", records, 60.0))
    assert sorted(lab.run(series.read("minutes", 0.0))) == sorted([Record(50.0, b"kept"), *records])


def test_records_that_are_too_old_are_dropped(lab: Lab) -> None:
    """Those of the same series only."""
    series = lab.engine.time_series
    lab.run(series.append("days", Record(10.0, b"kept"), HOUR_S))
    for at_s in (10.0, 40.0, 70.0, 100.0):
        lab.run(series.append("minutes", Record(at_s, b"%d" % at_s), 60.0))
    assert lab.run(series.read("minutes", 0.0)) == [Record(at, b"%d" % at) for at in (40.0, 70.0, 100.0)]
    assert lab.run(series.read("days", 0.0)) == [Record(10.0, b"kept")]


def test_more_records_are_read_than_fit_one_reading(lab: Lab) -> None:
    """The longest ones, too."""
    series = lab.engine.time_series

    async def fill() -> list[Record]:
        for at_s in range(550):
            await series.append("many", Record(float(at_s), b"x"), HOUR_S)
        await series.append("many", Record(2000.0, bytes(RECORD_BYTES)), HOUR_S)
        return await series.read("many", 0.0)

    found = lab.run(fill())
    assert [each.at_s for each in found] == [*map(float, range(550)), 2000.0]
    assert found[-1].data == bytes(RECORD_BYTES)
    assert lab.run(series.read("many", 0.0, limit=510)) == found[-510:]
