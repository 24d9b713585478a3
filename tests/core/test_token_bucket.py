"""Token buckets: how often something may happen."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channelstream.core.token_bucket import TokenBucket


def test_as_many_as_come_in_a_second_may_be_taken_at_once() -> None:
    """Then each has to wait for its own."""
    bucket = TokenBucket(per_s=2, now_s=10)
    assert [bucket.take(1, 10) for _ in range(3)] == [0, 0, 0.5]
    assert [bucket.take(1, 10.25), bucket.take(1, 10.5), bucket.take(1, 10.5)] == [0.25, 0, 0.5]


def test_a_pause_fills_it_up_to_its_bound() -> None:
    """However long it is."""
    bucket = TokenBucket(per_s=10, most=3)
    assert bucket.take(3, 0) == 0
    assert bucket.take(3, 1_000_000) == 0
    assert bucket.take(1, 1_000_000) == pytest.approx(0.1)


def test_more_than_fits_is_taken_from_a_full_one_and_owed() -> None:
    """So a long list passes, and the average stays."""
    bucket = TokenBucket(per_s=10, most=5)
    assert bucket.take(25, 0) == 0
    assert bucket.take(1, 0) == pytest.approx(2.1)
    assert bucket.take(25, 2.4) == pytest.approx(0.1)
    assert bucket.take(25, 2.5) == 0


def test_a_slow_rate_has_room_for_one() -> None:
    """Else nothing could ever be taken."""
    bucket = TokenBucket(per_s=0.1)
    assert [bucket.take(1, 0), bucket.take(1, 4)] == [0, pytest.approx(6)]


@given(
    st.floats(0.01, 1000),
    st.none() | st.floats(0.1, 1000),
    st.lists(st.tuples(st.integers(1, 50), st.floats(0, 10)), max_size=50),
)
def test_the_average_is_never_passed(
    per_s: float, most: float | None, takes: list[tuple[int, float]]
) -> None:
    """What is taken in any time is at most what came in it, what was there, and one list beyond."""
    bucket, now_s, taken, longest = (
        TokenBucket(per_s, most),
        0.0,
        0,
        max((count for count, _ in takes), default=0),
    )
    for count, pause_s in takes:
        now_s += pause_s
        wait_s = bucket.take(count, now_s)
        assert wait_s >= 0
        taken += 0 if wait_s else count
        assert taken <= now_s * per_s + bucket.most + longest + 1e-6


@given(st.floats(0.01, 1000), st.integers(1, 2000), st.floats(0, 100))
def test_after_the_wait_it_can_be_taken(per_s: float, count: int, now_s: float) -> None:
    """So a caller that waits for that time succeeds, if nobody else has taken."""
    bucket = TokenBucket(per_s, now_s=now_s)
    bucket.take(count, now_s)
    wait_s = bucket.take(count, now_s)
    assert bucket.take(count, now_s + wait_s + 1e-6) == 0 or wait_s == 0
