"""The bench of two applications: what one notices of the other at its limit."""

import asyncio

import pytest

from channelstream.bench import applications
from channelstream.bench.applications import SITUATIONS, Round, measure, text_of
from channelstream.bench.results import Percentiles


@pytest.mark.slow
@pytest.mark.usefixtures("bench_forks")
def test_each_situation_is_measured_in_each_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """The noisy application is refused what it sends above its limit, and the quiet one nothing."""
    monkeypatch.setattr(applications, "NOISY_PER_S", 1)
    found = asyncio.run(measure([], rounds=1, seconds=1.0, yield_processor=lambda: None))
    assert list(found) == list(SITUATIONS)
    assert all(each.answered.samples for [each] in found.values())
    [alone], [_], [hammered], [boundless] = found.values()
    assert (alone.accepted, alone.refused) == (0, 0)
    assert hammered.refused > 0
    assert boundless.refused == 0


def test_the_table_has_medians_and_what_the_other_one_adds() -> None:
    def rounds(*p99s: float) -> list[Round]:
        return [Round(Percentiles(100, p99 / 2, p99, p99, p99, p99), 100.0, 50.0) for p99 in p99s]

    lines = text_of({"alone": rounds(2, 8, 4), "beside": rounds(6, 1, 5)}).splitlines()
    assert lines[2:] == [
        "| alone | 2.00 | 4.00 | 1.00 | 100, 50 |",
        "| beside | 2.50 | 5.00 | 1.25 | 100, 50 |",
    ]
