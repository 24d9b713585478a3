"""The most frequent of very many names."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channelstream.core.frequent import WINDOW_NAMES, WINDOWS, Frequent, RecentRates, merged


def counted(names: list[str], wanted: int) -> Frequent[str]:
    counts: Frequent[str] = Frequent(wanted)
    for name in names:
        counts[name] += 1
    return counts


def test_few_names_are_counted_exactly() -> None:
    counts = counted(["a", "b", "a", "c", "a", "b"], wanted=3)
    assert counts.top(2) == [("a", 3), ("b", 2)]


@given(st.lists(st.sampled_from([f"name {number}" for number in range(40)])), st.integers(1, 10))
def test_counts_are_bounded_and_nearly_right(names: list[str], wanted: int) -> None:
    """Whatever comes: none is too high, and none too low by more than a share of all."""
    counts, real = counted(names, wanted), Counter(names)
    assert len(counts) <= 2 * wanted
    for name, count in real.items():
        assert count - len(names) / wanted <= counts.get(name, 0) <= count


def test_a_frequent_name_is_found_among_very_many_rare_ones() -> None:
    names = [name for number in range(10_000) for name in ("often", f"once {number}")]
    counts = counted(names, wanted=10)
    [(name, count), *_] = counts.top(3)
    assert (name, count >= 8_000) == ("often", True)


def test_rates_are_those_of_the_last_windows() -> None:
    """Per second; what is older than the last windows is gone, and the present window has not ended."""
    counts: Frequent[str] = Frequent()
    recent = RecentRates(counts)
    assert recent.rates() == {}
    counts["old"] += 100
    for _ in range(WINDOWS + 1):
        recent.turn(5.0)
        counts["a"] += 10
    assert recent.rates() == {"a": 2.0}
    assert counts == {"a": 10}


def test_a_window_has_a_bounded_number_of_names() -> None:
    """Those with the highest counts."""
    counts: Frequent[int] = Frequent()
    recent = RecentRates(counts)
    for number in range(WINDOW_NAMES + 10):
        counts[number] += number + 1
    recent.turn(1.0)
    assert recent.rates() == {number: number + 1 for number in range(10, WINDOW_NAMES + 10)}


@pytest.mark.parametrize(
    ("counts", "total"),
    [([], {}), ([{"a": 1.0}], {"a": 1.0}), ([{"a": 1.0, "b": 0.5}, {"a": 2.0}], {"a": 3.0, "b": 0.5})],
)
def test_counts_of_several_are_added_up(counts: list[dict[str, float]], total: dict[str, float]) -> None:
    assert merged(counts) == total
