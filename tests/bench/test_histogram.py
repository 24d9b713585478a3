"""The histogram of durations."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channelstream.bench.histogram import Histogram, bucket_of, middle_of


@given(st.integers(0, 1 << 50))
def test_buckets_are_narrow(value_ns: int) -> None:
    """The middle of a value's bucket is within 1/32 of it."""
    assert abs(middle_of(bucket_of(value_ns)) - value_ns) <= value_ns / 32


@given(st.integers(0, 1 << 50))
def test_a_greater_duration_is_in_no_smaller_bucket(value_ns: int) -> None:
    """A greater duration is never in a smaller bucket."""
    assert bucket_of(value_ns) <= bucket_of(value_ns + 1)


def test_percentiles_are_those_of_the_durations() -> None:
    """Percentiles are those of the durations, and the largest is exact."""
    histogram = Histogram()
    for value_ms in range(1, 1001):
        histogram.add(value_ms * 1_000_000)
    assert histogram.percentiles_ms((50, 99)) == pytest.approx([500, 990], rel=0.04)
    assert histogram.percentile_ns(100) <= histogram.max_ns == 1_000_000_000


def test_without_durations_percentiles_are_0() -> None:
    """Without durations every percentile is 0."""
    assert Histogram().percentiles_ms((50, 99.9)) == [0, 0]


def test_merged_histograms_have_counted_all_in_one() -> None:
    """Merging two histograms is having counted all in one."""
    one, two = Histogram(), Histogram()
    one.add(100, 3)
    two.add(100)
    two.add(9000)
    one.merge(Histogram(two.counts, two.max_ns))
    assert (one.total, one.max_ns, one.counts) == (5, 9000, {bucket_of(100): 4, bucket_of(9000): 1})
