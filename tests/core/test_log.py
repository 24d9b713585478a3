"""Logs: against a simple model, and at every bound."""

from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.log_bench import ONE, PLENTY, entry, filled, log, message, offsets, sweep
from tests.counted import counted_bytes

from channelstream.core.budget import EXPIRY_BATCH, Budget
from channelstream.core.entry import Entry
from channelstream.core.events import Event, Message, MessageEdited, Presence
from channelstream.core.log import Log, LogLimits


def test_a_full_log_drops_its_oldest_and_remembers_how_far() -> None:
    """The floor is the highest dropped offset."""
    full = filled(5, events=3)
    assert offsets(full) == [3, 4, 5]
    assert full.floor == 2


def test_what_one_log_gets_no_other_has() -> None:
    """Logs without entries share a list; appending and restoring leave it as it is."""
    budget = Budget(PLENTY)
    empty, appended, restored = (log(budget=budget) for _ in range(3))
    appended.append(entry(1))
    restored.floor = 2
    restored.restore([entry(1), entry(2)], 0)
    assert [offsets(each) for each in (empty, appended, restored, log())] == [[], [1], [1, 2], []]


def test_an_entry_below_the_floor_does_not_lower_it() -> None:
    """It may be restored into a log that lacks later ones."""
    full = log(events=1, floor=5)
    full.append(entry(3))
    full.append(entry(6))
    assert (offsets(full), full.floor) == ([6], 5)
    none = log(events=0, floor=5)
    none.append(entry(3))
    assert (offsets(none), none.floor) == ([], 5)


def test_a_log_that_has_lost_an_event_says_what_it_has_dropped() -> None:
    """What is older than the lost event is still there."""
    assert log(floor=5).dropped_to == 5
    lossy = filled(3, events=2)
    assert (offsets(lossy), lossy.floor, lossy.dropped_to) == ([2, 3], 1, 1)
    lossy.raise_floor(3)
    assert (offsets(lossy), lossy.floor, lossy.dropped_to) == ([2, 3], 3, 1)


def test_a_log_of_no_events_keeps_none_and_knows_what_it_missed() -> None:
    """A client below its floor has lost something."""
    none = filled(3, events=0)
    assert (none.entries, none.floor) == ([], 3)
    assert none.about("m3") == ()


@pytest.mark.parametrize(("offset", "found"), [(0, [1, 2, 3]), (1, [2, 3]), (2, [3]), (3, []), (9, [])])
def test_since_returns_later_entries(offset: int, found: list[int]) -> None:
    """The entries after an offset, none from the last one on."""
    assert [kept.offset for kept in filled(3).since(offset, 0.0)] == found


@pytest.mark.parametrize(("offset", "following"), [(0, 1), (1, 2), (2, 3), (3, None), (9, None)])
def test_the_next_offset_is_that_of_the_first_later_entry(offset: int, following: int | None) -> None:
    """None from the last entry on, as in an empty log."""
    assert filled(3).next_offset(offset) == following
    assert log().next_offset(offset) is None


def test_entries_are_read_lazily() -> None:
    """A read of one entry of a long log costs one."""
    following = filled(3).since(1, 0.0)
    assert next(following).offset == 2


def test_since_of_an_empty_log_is_empty() -> None:
    """There is nothing after anything."""
    assert list(log().since(0, 0.0)) == []


def test_since_updates_the_floor() -> None:
    """Expired entries are dropped before the floor is read."""
    ageing = filled(3, age_s=10.0)
    assert [kept.offset for kept in ageing.since(0, 12.5)] == [3]
    assert ageing.floor == 2


@pytest.mark.parametrize("is_swept", [True, False])
def test_an_entry_after_a_long_silence_does_not_hide_expired_entries(is_swept: bool) -> None:
    """Where all older ones have expired, the floor is above them, swept or not: unread ones are lost."""
    budget = Budget(PLENTY)
    ageing = filled(3, age_s=10.0, budget=budget)
    if is_swept:
        sweep(budget, 1_000.0)
        assert (ageing.entries, ageing.floor) == ([], 3)
    ageing.append(entry(5, 1_000.0))
    assert [kept.offset for kept in ageing.since(0, 1_000.0)] == [5]
    assert ageing.floor == 3


def test_an_entry_lives_through_the_whole_of_its_age() -> None:
    """It is dropped after the limit, not at it."""
    ageing = filled(1, age_s=10.0)
    ageing.expire(11.0)
    assert offsets(ageing) == [1]
    ageing.expire(11.001)
    assert offsets(ageing) == []


def test_a_log_without_age_limit_keeps_for_any_time() -> None:
    """Only the count bounds it."""
    ageless = filled(3)
    ageless.expire(1e12)
    assert offsets(ageless) == [1, 2, 3]


def test_new_limits_hold_at_once() -> None:
    """Fewer events, then a shorter age, both without waiting for the next event."""
    full = filled(6)
    full.limit(LogLimits(4), 6.0)
    assert offsets(full) == [3, 4, 5, 6]
    full.limit(LogLimits(4, 1.0), 6.0)
    assert offsets(full) == [5, 6]
    assert full.floor == 4


def test_clearing_forgets_everything() -> None:
    """Afterwards the floor is the last number, and nothing counts in the budget."""
    budget = Budget(PLENTY)
    full = filled(3, budget=budget)
    full.clear()
    assert (full.entries, full.floor, budget.used_bytes) == ([], 3, 0)
    full.clear()
    assert full.floor == 3


def test_a_superseded_entry_keeps_its_offset() -> None:
    """The current form has the old offset, is found by its uuid, and counts in the budget."""
    budget = Budget(PLENTY)
    full = filled(3, budget=budget)
    old = full.entries[1]
    new = old.with_event(message("m2", b"123456789"))
    full.supersede(old, new)
    assert full.entries[1] is new
    assert full.about("m2") == (new,)
    assert offsets(full) == [1, 2, 3]
    assert budget.used_bytes == sum(kept.size for kept in full.entries)


def test_the_only_entry_can_be_superseded() -> None:
    """The budget still knows the log afterwards, and can take the entry from it."""
    budget = Budget(PLENTY)
    single = filled(1, budget=budget)
    single.supersede(single.entries[0], single.entries[0].with_event(message("m1", b"22")))
    budget.limit_bytes = 0
    other = log(budget=budget)
    other.append(entry(2))
    assert (single.entries, other.entries, budget.used_bytes) == ([], [], 0)


def test_a_removed_entry_is_no_gap() -> None:
    """No deliverable entry was lost, so the floor stays, also where the log is empty."""
    budget = Budget(PLENTY)
    full = filled(3, budget=budget)
    full.supersede(full.entries[0], None)
    assert offsets(full) == [2, 3]
    assert full.about("m1") == ()
    assert (full.floor, budget.used_bytes) == (0, 2 * ONE)
    for old in list(full.entries):
        full.supersede(old, None)
    assert (list(full.since(0, 0.0)), full.floor, budget.used_bytes) == ([], 0, 0)


def test_a_log_is_cut_up_to_a_number() -> None:
    """Also one that it no longer has; the floor never decreases."""
    full = filled(4)
    full.supersede(full.entries[1], None)
    full.drop_through(2)
    assert (offsets(full), full.floor) == ([3, 4], 2)
    full.drop_through(1)
    assert (offsets(full), full.floor) == ([3, 4], 2)


def test_a_dropped_entry_is_not_superseded() -> None:
    """The budget may have dropped it meanwhile; the change does not restore it."""
    full = filled(3)
    gone = full.entries[0]
    full.drop_oldest(1)
    full.supersede(gone, gone.with_event(message("m1", b"22")))
    assert (offsets(full), full.about("m1")) == ([2, 3], ())


def test_a_message_and_what_is_about_it_are_found_by_uuid() -> None:
    """In the order of the log, each as long as the log has it."""
    mixed = log(events=2)
    assert mixed.about("m2") == ()
    mixed.append(Entry(1, ("e",), 0.0, MessageEdited(uuid="m2", channel="a", edited="t")))
    mixed.append(entry(2))
    assert mixed.about("m2") == tuple(mixed.entries)
    mixed.append(entry(3))
    assert mixed.about("m2") == (mixed.entries[0],)


def test_very_many_entries_are_dropped_without_looking_at_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings cut a log in one turn: those that stay are found by uuid, the others are not."""
    full = filled(4000, events=4000)
    with monkeypatch.context() as patch:
        patch.setattr(Log, "_unindex", None)
        full.limit(LogLimits(10, None), 0.0)
        assert (len(full.entries), full.floor) == (10, 3990)
        assert [full.about(f"m{number}") for number in (1, 3990)] == [(), ()]
        assert [full.about(each.event.uuid) for each in full.entries] == [(each,) for each in full.entries]
    full.clear()
    assert full.about("m4000") == ()


def test_cut_entries_count_until_they_are_freed_step_by_step() -> None:
    full = filled(4000, events=4000)
    budget = full._budget
    full.limit(LogLimits(10, None), 0.0)
    counted = [budget.used_bytes]
    while budget.free():
        counted.append(budget.used_bytes)
    steps = [before - after for before, after in pairwise([*counted, budget.used_bytes])]
    assert (counted[0], budget.used_bytes) == (4000 * ONE, 10 * ONE)
    assert len(steps) == 8 and max(steps) == EXPIRY_BATCH * ONE
    assert not budget.free()


def test_a_sweep_frees_cut_entries() -> None:
    full = filled(4000, events=4000)
    full.clear()
    assert (sweep(full._budget, 0.0), full._budget.used_bytes) == (7, 0)


def test_a_uuid_is_published_again_after_its_entry_was_cut() -> None:
    """The index has the new entry alone, before and after the old one is freed."""
    full = filled(4000, events=4000)
    full.clear()
    again = Entry(4001, ("e",), 0.0, message("m1"))
    full.append(again)
    for _ in range(2):
        assert full.about("m1") == (again,)
        full._budget.finish(full)


def test_cut_entries_are_freed_before_any_other_is_dropped() -> None:
    budget = Budget(4000 * ONE)
    quiet, cut = filled(5, budget=budget), filled(3995, events=3995, budget=budget)
    cut.limit(LogLimits(0, None), 0.0)
    quiet.append(entry(6))
    assert (offsets(quiet), budget.used_bytes) == ([1, 2, 3, 4, 5, 6], (4001 - EXPIRY_BATCH) * ONE)


def test_a_cut_log_is_restored_exactly() -> None:
    """As a change of settings that could not be written, beside another log that was cut."""
    budget = Budget(PLENTY)
    full, other = (filled(4000, events=4000, budget=budget) for _ in range(2))
    before = list(full.entries)
    other.clear()
    full.limit(LogLimits(10, None), 0.0)
    full.limit(LogLimits(4000, None), 0.0)
    full.restore(before, 0)
    assert (full.entries, full.floor) == (before, 0)
    assert full.about("m1") == (before[0],)
    while budget.free():
        pass
    assert budget.used_bytes == 4000 * ONE


@pytest.mark.parametrize(("most", "kept"), [(5, [1, 2, 3, 4, 5]), (4, [2, 3, 4, 5]), (0, [])])
def test_a_log_that_has_lost_an_event_among_others_is_restored_exactly(most: int, kept: list[int]) -> None:
    """Its floor is above entries that it still has."""
    full = filled(5, events=5)
    full.raise_floor(3)
    before = list(full.entries)
    full.limit(LogLimits(most, None), 0.0)
    assert offsets(full) == kept
    full.restore(before, 3)
    assert (full.entries, full.floor) == (before, 3)


def test_an_event_about_no_message_is_not_found_by_uuid() -> None:
    """And its drop does not touch the index of messages."""
    mixed = log(events=1)
    mixed.append(
        Entry(1, ("e",), 0.0, Presence(uuid="p", user="ann", joined=True, timestamp="t", state=None))
    )
    assert mixed.about("p") == ()
    mixed.append(entry(2))
    mixed.append(
        Entry(3, ("e",), 0.0, Presence(uuid="p", user="ann", joined=False, timestamp="t", state=None))
    )
    mixed.append(entry(4))
    mixed.limits = LogLimits(3)
    mixed.append(
        Entry(5, ("e",), 0.0, Presence(uuid="q", user="ann", joined=True, timestamp="t", state=None))
    )
    mixed.append(entry(6))
    mixed.drop_oldest(2)
    assert (offsets(mixed), mixed.about("m6"), mixed.about("q")) == ([6], (mixed.entries[0],), ())


# -- against a model


@dataclass
class ModelLog:
    """A model of a log, without any index or shared budget."""

    events: int = 4
    age_s: float | None = None
    floor: int = 0
    kept: list[Entry] = field(default_factory=list)

    def drop(self, count: int) -> None:
        for gone in self.kept[: max(count, 0)]:
            self.floor = max(self.floor, gone.offset)
        self.kept = self.kept[max(count, 0) :]

    def append(self, new: Entry) -> None:
        self.kept.append(new)
        self.drop(len(self.kept) - self.events)

    def expire(self, now_s: float) -> None:
        if self.age_s is not None:
            limit_s = now_s - self.age_s
            self.drop(sum(1 for kept in self.kept if kept.at_s < limit_s))

    def limit(self, events: int, age_s: float | None, now_s: float) -> None:
        self.events, self.age_s = events, age_s
        self.drop(len(self.kept) - events)
        self.expire(now_s)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(0, 3), st.integers(0, 20)),
        st.tuples(st.just("edit"), st.integers(0, 3), st.integers(0, 10)),
        st.tuples(st.just("since"), st.integers(0, 3), st.integers(0, 30)),
        st.tuples(st.just("expire"), st.integers(0, 5), st.none()),
        st.tuples(st.just("limit"), st.integers(0, 5), st.none() | st.integers(0, 5)),
        st.tuples(st.just("drop"), st.integers(-1, 3), st.none()),
        st.tuples(st.just("replace"), st.integers(0, 5), st.integers(0, 30)),
        st.tuples(st.just("remove"), st.integers(0, 5), st.none()),
        st.tuples(st.just("free"), st.none(), st.none()),
    ),
    max_size=40,
)


class LogsTogether:
    """A log and its model, taken through the same steps."""

    def __init__(self) -> None:
        self.budget = Budget(PLENTY)
        self.log = log(events=4, budget=self.budget)
        self.model = ModelLog()
        self.now_s = 0.0
        self.offset = 0

    def append(self, wait: int, size: int) -> None:
        self._accept(message(f"m{self.offset + 1}", b"x" * size), wait)

    def edit(self, wait: int, back: int) -> None:
        self._accept(MessageEdited(uuid=f"m{max(self.offset - back, 0)}", channel="a", edited="t"), wait)

    def _accept(self, event: Event, wait: int) -> None:
        self.now_s += wait
        self.offset += 1 + wait
        new = Entry(self.offset, ("e",), self.now_s, event)
        self.log.append(new)
        self.model.append(new)

    def since(self, wait: int, offset: int) -> None:
        self.now_s += wait
        self.model.expire(self.now_s)
        assert list(self.log.since(offset, self.now_s)) == [
            kept for kept in self.model.kept if kept.offset > offset
        ]

    def expire(self, wait: int, _: None) -> None:
        self.now_s += wait
        self.log.expire(self.now_s)
        self.model.expire(self.now_s)

    def limit(self, events: int, age: int | None) -> None:
        self.log.limit(LogLimits(events, age), self.now_s)
        self.model.limit(events, age, self.now_s)

    def drop(self, count: int, _: None) -> None:
        self.log.drop_oldest(count)
        self.model.drop(count)

    def replace(self, which: int, size: int) -> None:
        old = self._held_message(which)
        if old is not None:
            new = old.with_event(message(old.event.uuid, b"x" * size))
            self.log.supersede(old, new)
            self.model.kept[self.model.kept.index(old)] = new

    def remove(self, which: int, _: None) -> None:
        old = self._held_message(which)
        if old is not None:
            self.log.supersede(old, None)
            self.model.kept.remove(old)

    def _held_message(self, which: int) -> Entry | None:
        held = [kept for kept in self.model.kept if isinstance(kept.event, Message)]
        return held[which % len(held)] if held else None

    def free(self, *_: object) -> None:
        self.budget.free()

    def agree(self) -> None:
        assert self.log.entries == self.model.kept
        assert self.log.floor == self.model.floor
        assert self.budget.used_bytes == counted_bytes([self.log], self.budget)
        for number in range(self.offset + 1):
            kept = [each for each in self.model.kept if each.event.uuid == f"m{number}"]
            assert self.log.about(f"m{number}") == tuple(kept)


@given(STEPS, st.sampled_from([1, 500]))
def test_a_log_agrees_with_its_model(steps: list[tuple[str, int, int | None]], cut: int) -> None:
    """Entries, floor, message index and budget agree after any sequence of steps, also if the log is cut by few."""
    both = LogsTogether()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("channelstream.core.log.CUT", cut)
        patch.setattr("channelstream.core.budget.EXPIRY_BATCH", cut)
        for name, first, second in steps:
            getattr(both, name)(first, second)
            both.agree()
