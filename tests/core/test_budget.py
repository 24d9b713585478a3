"""The budget of all logs together: which of them pays, and when entries that are too old are freed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.log_bench import ONE, PLENTY, entry, filled, log, offsets, sweep
from tests.counted import counted_bytes

from channelstream.core.budget import Budget
from channelstream.core.entry import HELD_BYTES
from channelstream.core.log import LogLimits, append_to_all


def test_the_log_quiet_for_longest_pays() -> None:
    """At the bound the oldest entries go from the log whose last event is longest ago."""
    budget = Budget(4 * ONE)
    quiet, busy = log(budget=budget), log(budget=budget)
    busy.append(entry(1))
    quiet.append(entry(2))
    quiet.append(entry(3))
    busy.append(entry(4))
    busy.append(entry(5))
    assert (offsets(quiet), quiet.floor) == ([3], 2)
    assert offsets(busy) == [1, 4, 5]


def test_an_entry_in_many_logs_counts_once() -> None:
    """And its place in each further log; whichever log drops it last, nothing of it counts any more."""
    budget = Budget(PLENTY)
    logs = [log(budget=budget) for _ in range(1000)]
    shared = entry(1, payload=b"x" * 50_000)
    append_to_all(logs, shared)
    assert budget.used_bytes == shared.size + 999 * HELD_BYTES
    for each in logs[1:]:
        each.drop_oldest(1)
    assert budget.used_bytes == shared.size
    logs[0].clear()
    assert budget.used_bytes == 0


def test_an_entry_that_is_superseded_in_some_logs_counts_until_it_is_in_none() -> None:
    budget = Budget(PLENTY)
    logs = [log(budget=budget) for _ in range(3)]
    old, new = entry(1, payload=b"x" * 500), entry(1)
    append_to_all(logs, old)
    for each, used in zip(
        logs, (old.size + HELD_BYTES + new.size, old.size + new.size + HELD_BYTES), strict=False
    ):
        each.supersede(old, new)
        assert budget.used_bytes == used
    logs[2].supersede(old, None)
    assert budget.used_bytes == new.size + HELD_BYTES


def test_a_log_stays_as_old_as_it_is_where_an_entry_is_replaced() -> None:
    """Nothing was appended to it; a larger form counts at once."""
    budget = Budget(2 * ONE)
    quiet, busy = log(budget=budget), log(budget=budget)
    quiet.append(old := entry(1))
    busy.append(entry(2))
    quiet.supersede(old, same := entry(1))
    assert (quiet.entries, budget.used_bytes) == ([same], 2 * ONE)
    budget.limit_bytes += 9
    busy.supersede(busy.entries[0], grown := entry(2, payload=b"1" * 9))
    assert (quiet.entries, busy.entries, budget.used_bytes) == ([], [grown], grown.size)


def test_an_emptied_log_is_not_trimmed_again() -> None:
    """When the log quiet for longest is empty, the next one pays."""
    budget = Budget(2 * ONE)
    first, second = log(budget=budget), log(budget=budget)
    first.append(entry(1))
    second.append(entry(2))
    for number in (3, 4):
        second.append(entry(number))
    assert (offsets(first), offsets(second)) == ([], [3, 4])


def test_an_entry_larger_than_the_budget_is_not_kept() -> None:
    """It pushes out everything, itself included, and the floor rises."""
    budget = Budget(2 * ONE)
    other, own = log(budget=budget), log(budget=budget)
    other.append(entry(1))
    own.append(entry(2, payload=b"x" * 10_000))
    assert (other.entries, own.entries) == ([], [])
    assert (own.floor, own.about("m2"), budget.used_bytes) == (2, (), 0)
    own.append(entry(3))
    assert offsets(own) == [3]


def test_a_single_log_shrinks_to_the_budget() -> None:
    """One busy channel alone keeps its latest events."""
    only = filled(9, budget=Budget(3 * ONE))
    assert offsets(only) == [7, 8, 9]


def test_a_full_log_takes_from_itself_before_it_takes_from_others() -> None:
    """Where the log's own bound frees enough, no other log loses an entry."""
    budget = Budget(3 * ONE)
    quiet, full = log(budget=budget), log(events=2, budget=budget)
    quiet.append(entry(1))
    for number in (2, 3, 4):
        full.append(entry(number))
    assert (offsets(quiet), offsets(full)) == ([1], [3, 4])


def test_a_log_that_keeps_nothing_costs_others_nothing() -> None:
    """An entry that is not kept does not count."""
    budget = Budget(ONE)
    quiet, none = log(budget=budget), log(events=0, budget=budget)
    quiet.append(entry(1))
    none.append(entry(2))
    assert offsets(quiet) == [1]


def test_a_sweep_frees_expired_entries_everywhere() -> None:
    """A log that keeps its entries for ever, or for longer, does not shield those behind it."""
    budget = Budget(PLENTY)
    history, patient, short = (
        log(budget=budget),
        log(age_s=100.0, budget=budget),
        log(age_s=10.0, budget=budget),
    )
    for number, aged in enumerate((history, patient, short), start=1):
        aged.append(entry(number, 0.0))
    assert sweep(budget, 10.0) == 0
    sweep(budget, 11.0)
    assert (offsets(history), offsets(patient), offsets(short)) == ([1], [2], [])
    sweep(budget, 101.0)
    assert (offsets(history), offsets(patient), budget.used_bytes) == ([1], [], ONE)


def test_a_sweep_examines_only_logs_with_an_expired_entry() -> None:
    """However many logs there are; one that dropped its oldest for another reason is examined once in vain."""
    budget = Budget(PLENTY)
    logs = [log(events=2, age_s=10.0, budget=budget) for _ in range(100)]
    for number, aged in enumerate(logs):
        aged.append(entry(1, float(number)))
    assert sweep(budget, 11.0) == 1
    logs[1].append(entry(2, 11.0))
    logs[1].append(entry(3, 11.0))
    assert sweep(budget, 12.0) == 1
    assert offsets(logs[1]) == [2, 3]
    assert sweep(budget, 12.0) == 0
    sweep(budget, 22.0)
    assert offsets(logs[1]) == []


def test_each_entry_is_freed_at_the_end_of_its_own_age() -> None:
    """After the first one is freed, the next one decides when the log is swept again, not the last one."""
    aged = filled(3, age_s=10.0)
    left = []
    for now_s in (12.0, 13.0, 14.0):
        sweep(aged._budget, now_s)
        left.append(offsets(aged))
    assert left == [[2, 3], [3], []]


def test_a_sweep_frees_a_long_log_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tasks run in between."""
    monkeypatch.setattr("channelstream.core.budget.EXPIRY_BATCH", 4)
    long = filled(9, age_s=1.0)
    assert sweep(long._budget, 100.0) == 3
    assert offsets(long) == []


def test_a_sweep_applies_changed_age_limits() -> None:
    """Shorter, longer, none, and restored ones."""
    budget = Budget(PLENTY)
    shorter, longer, never, back = (log(age_s=10.0, budget=budget) for _ in range(4))
    for aged in (shorter, longer, never, back):
        aged.append(entry(1, 0.0))
    shorter.limit(LogLimits(10, 5.0), 1.0)
    longer.limit(LogLimits(10, 20.0), 1.0)
    never.limit(LogLimits(10), 1.0)
    held, floor = list(back.entries), back.floor
    back.clear()
    for _ in range(2):  # The second time nothing is missing.
        back.restore(held, floor)
    assert sweep(budget, 6.0) == 1
    assert sweep(budget, 11.0) == 1
    assert [offsets(aged) for aged in (shorter, longer, never, back)] == [[], [1], [1], []]
    sweep(budget, 21.0)
    assert [offsets(aged) for aged in (longer, never)] == [[], [1]]


@given(
    limit=st.integers(0, 6 * ONE),
    steps=st.lists(st.tuples(st.integers(0, 2), st.sampled_from("apper"), st.integers(0, 2000)), max_size=40),
)
def test_a_budget_is_exact_and_never_exceeded(limit: int, steps: list[tuple[int, str, int]]) -> None:
    """Whatever is appended, expired or removed: the used bytes are those of the entries, and older entries go first."""
    budget = Budget(limit)
    logs = [log(events, age_s, budget) for events, age_s in ((3, None), (5, 4.0), (0, None))]
    for offset, (which, what, size) in enumerate(steps, start=1):
        if what == "a":
            logs[which].append(entry(offset, float(offset), b"x" * size))
        elif what == "p":
            append_to_all(logs[which:], entry(offset, float(offset), b"x" * size))
        elif what == "e":
            budget.sweep(float(offset))
        elif logs[which].entries:
            logs[which].supersede(logs[which].entries[-1], None)
        assert budget.used_bytes == counted_bytes(logs, budget) <= limit
        assert all(kept.offset > each.floor for each in logs for kept in each.entries)
        assert all(each.about(kept.event.uuid) == (kept,) for each in logs for kept in each.entries)
