"""Due items are found once, and no others are examined."""

import tracemalloc

from channelstream.core.deadlines import SLOT_S, SPARE_NUMBERS, Deadlines


class Item:
    """An item with a name."""

    __slots__ = ("due_slot", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.due_slot: int | None = None


class Names:
    """A table of items, which are made at the first use of their names."""

    def __init__(self) -> None:
        self.table = Deadlines[Item]()
        self._items: dict[str, Item] = {}

    def __getitem__(self, name: str) -> Item:
        return self._items.setdefault(name, Item(name))

    def set(self, name: str, at_s: float) -> None:
        self.table.set(self[name], at_s)

    def drop(self, name: str) -> None:
        self.table.drop(self[name])


def all_due(names: Names, now_s: float) -> set[str]:
    """Take out the due items."""
    found = set()
    while (item := names.table.due(now_s)) is not None:
        assert (item.due_slot, item.name in found) == (None, False)
        found.add(item.name)
    return found


def test_items_are_due_at_their_deadlines() -> None:
    """Not before, at most a slot later, and once."""
    names = Names()
    for name, at_s in (("late", 10.0), ("soon", 1.01), ("sooner", 1.0)):
        names.set(name, at_s)
    assert all_due(names, 0.99) == set()
    assert all_due(names, 1.0) == {"sooner"}
    assert all_due(names, 1.01 + SLOT_S) == {"soon"}
    assert all_due(names, 20.0) == {"late"}
    assert all_due(names, 20.0) == set()


def test_a_deadline_is_replaced() -> None:
    """By a later or an earlier one, and by the same."""
    names = Names()
    for at_s in (1.0, 1.0, 5.0):
        names.set("later", at_s)
    for at_s in (5.0, 1.0):
        names.set("earlier", at_s)
    assert all_due(names, 4.0) == {"earlier"}
    assert all_due(names, 5.0) == {"later"}


def test_a_dropped_deadline_is_never_due() -> None:
    """Dropping an unknown item changes nothing; a dropped item may be added again."""
    names = Names()
    names.set("a", 1.0)
    names.drop("a")
    names.drop("a")
    assert (names["a"].due_slot is not None, all_due(names, 9.0)) == (False, set())
    names.set("a", 1.0)
    assert (names["a"].due_slot is not None, all_due(names, 9.0)) == (True, {"a"})


def test_a_table_keeps_nothing_of_past_items() -> None:
    """Past slots are removed, and so are later ones whose items have all moved."""
    names = Names()
    for number in range(100):
        names.set("polls", float(number))
        names.table.due(number - 1.0)
    assert len(names.table._slots) <= 3
    day_s = 86_400.0
    for number in range(2_000):
        names.set(f"log{number % 22}", day_s + number * SLOT_S)
        assert len(names.table._slots) <= 23
        assert len(names.table._numbers) <= 2 * len(names.table._slots) + SPARE_NUMBERS
    assert all_due(names, day_s) == {"polls"}
    assert all_due(names, 2 * day_s) == {f"log{number}" for number in range(22)}
    assert (names.table._slots, names.table._numbers) == ({}, [])


def test_a_table_keeps_nothing_of_many_dropped_items() -> None:
    """Nor does it lose the others."""
    names = Names()
    for number in range(1_000):
        names.set(str(number), float(number))
    for number in range(1, 1_000):
        names.drop(str(number))
    assert len(names.table._slots) == 1
    assert len(names.table._numbers) <= 2 + SPARE_NUMBERS
    assert all_due(names, 1_000.0) == {"0"}


def test_a_slot_may_come_again() -> None:
    """Its items are due once, also where its number is still known."""
    names = Names()
    for _ in range(3):
        names.set("a", 1.0)
        names.drop("a")
    names.set("a", 1.0)
    names.set("b", 1.0)
    assert all_due(names, 1.0) == {"a", "b"}
    names.set("a", 1.0)
    assert all_due(names, 1.0) == {"a"}


def test_no_change_copies_what_is_known() -> None:
    """A dict of 10,000 items would be copied several times as it grows and is changed, each time in one step."""
    table, items = Deadlines[Item](), [Item("") for _ in range(10_000)]
    tracemalloc.start()
    try:
        for number, item in enumerate(items):
            table.set(item, number / 1_000)
        most_bytes = 0
        for number, item in enumerate(items):
            before, _ = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            table.drop(item)
            table.set(item, 10 + number / 1_000)
            most_bytes = max(most_bytes, tracemalloc.get_traced_memory()[1] - before)
    finally:
        tracemalloc.stop()
    assert most_bytes < 20_000
