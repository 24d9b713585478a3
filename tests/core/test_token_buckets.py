"""Token buckets of very many names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channelstream.core.token_bucket import TokenBucket
from channelstream.core.token_buckets import WANTED, TokenBuckets
from channelstream.memory import ResidentMemory


def test_each_name_has_a_bucket_of_its_own() -> None:
    """As many as come in a second may be taken at once; then each has to wait for its own."""
    buckets: TokenBuckets[str] = TokenBuckets(per_s=2)
    assert [buckets.take("ann", 1, 10) for _ in range(3)] == [0, 0, 0.5]
    assert buckets.take("bob", 2, 10) == 0
    assert buckets.take("ann", 1, 10.5) == 0


def test_a_slow_rate_has_room_for_one() -> None:
    """Else nothing could ever be taken."""
    buckets: TokenBuckets[str] = TokenBuckets(per_s=0.1)
    assert [buckets.take("ann", 1, 0), buckets.take("ann", 1, 4)] == [0, pytest.approx(6)]


@given(
    st.floats(0.01, 1000),
    st.none() | st.floats(0.1, 1000),
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 50), st.floats(0, 10)), max_size=50),
)
def test_they_count_as_single_ones_do(
    per_s: float, most: float | None, takes: list[tuple[str, int, float]]
) -> None:
    """`TokenBucket`, one for each name, is the rule; at the moment at which a token comes, either may be first."""
    buckets: TokenBuckets[str] = TokenBuckets(per_s, most)
    singles = {name: TokenBucket(per_s, most) for name in "ab"}
    now_s = 0.0
    for name, count, pause_s in takes:
        now_s += pause_s
        expected_s = singles[name].take(count, now_s)
        found_s = buckets.take(name, count, now_s)
        if (expected_s == 0) != (found_s == 0):
            assert max(expected_s, found_s) < 1e-5
            return
        assert found_s == pytest.approx(expected_s, abs=1e-5)


def test_what_was_taken_can_be_asked_for_and_forgotten() -> None:
    """It comes again with time; more than is there can be taken as well, and is owed."""
    buckets: TokenBuckets[str] = TokenBuckets(per_s=0.5, most=3)
    assert buckets.spent("ann", 0) == 0
    for _ in range(5):
        buckets.spend("ann", 1, 0)
    assert [buckets.spent("ann", 0), buckets.spent("ann", 4), buckets.spent("ann", 20)] == [5, 3, 0]
    assert [buckets.wait_s("ann", 1, 0), buckets.wait_s("ann", 1, 6)] == [6, 0]
    buckets.fill("ann")
    buckets.fill("bob")
    assert (buckets.spent("ann", 0), len(buckets)) == (0, 0)


def test_very_many_strangers_take_bounded_memory() -> None:
    """Each of them takes one token; one who has taken more stays limited all the while."""
    buckets: TokenBuckets[str] = TokenBuckets(per_s=1, most=5)
    resident, longest = ResidentMemory(), 0
    for _ in range(5):
        assert buckets.take("10.0.0.1", 1, 0) == 0
    before_bytes = resident.read()
    for number in range(300_000):
        buckets.take(f"2001:db8:{number >> 16:x}:{number & 0xFFFF:x}::/64", 1, 0)
        longest = max(longest, len(buckets))
    assert buckets.take("10.0.0.1", 1, 0) == 1
    assert longest < 2 * WANTED
    assert resident.read() - before_bytes < 16 << 20  # All of them would take 40 MB.


def test_who_has_taken_most_is_remembered() -> None:
    """Full buckets go first, then the fullest ones; those that are left are as they were."""
    buckets: TokenBuckets[int] = TokenBuckets(per_s=1, most=100, wanted=3)
    buckets.spend(0, 1, now_s=0)
    for number in (5, 4, 3, 2, 1):
        buckets.spend(number, 10 * number, now_s=10)
    assert [buckets.spent(number, 10) for number in range(6)] == [0, 0, 0, 30, 40, 50]


def test_nothing_is_kept_of_full_ones() -> None:
    """However few there are besides."""
    buckets: TokenBuckets[int] = TokenBuckets(per_s=1, wanted=4)
    for number in range(7):
        buckets.spend(number, 1, now_s=0)
    buckets.spend(7, 1, now_s=5)
    assert (len(buckets), buckets.spent(7, 5)) == (1, 1)


@given(st.integers(1, 8), st.lists(st.tuples(st.integers(0, 99), st.integers(1, 9)), max_size=200))
def test_those_who_have_taken_most_are_never_forgotten(wanted: int, takes: list[tuple[int, int]]) -> None:
    """Whatever others do who take less, and how many they are."""
    buckets: TokenBuckets[int] = TokenBuckets(per_s=1, most=1e9, wanted=wanted)
    for number in range(wanted):
        buckets.spend(-1 - number, 2000, now_s=0)
    for name, count in takes:
        buckets.spend(name, count, now_s=0)
        assert len(buckets) < 2 * wanted
    assert {buckets.spent(-1 - number, 0) for number in range(wanted)} == {2000}
