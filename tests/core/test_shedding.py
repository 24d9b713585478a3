"""Load shedding: when it begins and ends, and what it refuses."""

import pytest

from channelstream.close_codes import CloseCode
from channelstream.core.shedding import (
    EASED_S,
    NO_BOUND,
    Bound,
    Shedding,
    Work,
    delay_bound,
    memory_bound,
)
from channelstream.errors import Overloaded


def reasons(shedding: Shedding, *samples: tuple[int, float]) -> list[str]:
    """Return the reason after each sample of memory and delay, one a second."""
    found = []
    for now_s, (memory_bytes, delay_s) in enumerate(samples):
        shedding.observe(memory_bytes, delay_s, float(now_s))
        found.append(shedding.reason)
    return found


def limited(memory: Bound = NO_BOUND, delay: Bound = NO_BOUND) -> Shedding:
    shedding = Shedding()
    shedding.limit(memory, delay)
    return shedding


def test_without_bounds_nothing_is_shed() -> None:
    """As in a new process, and where options set 0."""
    assert reasons(Shedding(), (1 << 60, 1e9)) == [""]
    assert reasons(limited(memory_bound(0), delay_bound(0)), *[(1 << 60, 1e9)] * 5) == [""] * 5


def test_memory_above_its_bound_decides_at_once() -> None:
    assert reasons(limited(memory_bound(1000)), (1000, 0.0), (1001, 0.0)) == ["", "memory"]


def test_a_single_slow_turn_is_no_overload() -> None:
    """Only delays above the bound in three samples in a row are."""
    late, on_time = (0, 1.1), (0, 0.0)
    samples = (late, late, on_time, late, late, late)
    assert reasons(limited(delay=delay_bound(1.0)), *samples) == ["", "", "", "", "", "loop delay"]


def test_it_ends_when_the_load_was_eased_for_its_time() -> None:
    eased = int(EASED_S)
    found = reasons(limited(memory_bound(1000)), (1001, 0.0), *[(950, 0.0)] * (eased + 1))
    assert found == ["memory"] * (eased + 1) + [""]


def test_a_load_near_its_bound_does_not_oscillate() -> None:
    """Between the bound and 95 % of it nothing ends, and a return to there begins the wait again."""
    samples = [(1001, 0.0), *[(951, 0.0), (1000, 0.0)] * 10, *[(950, 0.0)] * 5, (951, 0.0), *[(950, 0.0)] * 5]
    assert set(reasons(limited(memory_bound(1000)), *samples)) == {"memory"}


def test_all_figures_over_their_bounds_are_named() -> None:
    both = limited(memory_bound(1000), delay_bound(1.0))
    assert reasons(both, *[(2000, 2.0)] * 3)[-1] == "memory and loop delay"


def test_nothing_is_refused_without_a_reason() -> None:
    shedding = Shedding()
    for work in Work:
        shedding.check(work)
    assert set(shedding.refused.values()) == {0}


@pytest.mark.parametrize("work", Work)
def test_a_refusal_is_counted_and_says_when_to_return(work: Work) -> None:
    """Its close code is that of an overloaded server: the client keeps its connection and its transport."""
    shedding = limited(memory_bound(1000))
    shedding.observe(1001, 0.0, 0.0)
    with pytest.raises(Overloaded) as refused:
        shedding.check(work)
    assert shedding.refused == dict.fromkeys(Work, 0) | {work: 1}
    assert (refused.value.http_status, refused.value.code) == (503, "unavailable")
    assert refused.value.headers == ((b"retry-after", b"5"),)
    assert refused.value.body["close_code"] == refused.value.refusal_code == CloseCode.OVERLOADED
