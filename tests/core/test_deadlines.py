"""Due items are found once, and no others are examined."""

from channelstream.core.deadlines import SLOT_S, SPARE_NUMBERS, Deadlines


def all_due(table: Deadlines[str], now_s: float) -> set[str]:
    """Take out the due items."""
    found = set()
    while (item := table.due(now_s)) is not None:
        assert item not in found
        found.add(item)
    return found


def test_items_are_due_at_their_deadlines() -> None:
    """Not before, at most a slot later, and once."""
    table = Deadlines[str]()
    for name, at_s in (("late", 10.0), ("soon", 1.01), ("sooner", 1.0)):
        table.set(name, at_s)
    assert all_due(table, 0.99) == set()
    assert all_due(table, 1.0) == {"sooner"}
    assert all_due(table, 1.01 + SLOT_S) == {"soon"}
    assert all_due(table, 20.0) == {"late"}
    assert all_due(table, 20.0) == set()
    assert len(table) == 0


def test_a_deadline_is_replaced() -> None:
    """By a later or an earlier one, and by the same."""
    table = Deadlines[str]()
    for at_s in (1.0, 1.0, 5.0):
        table.set("later", at_s)
    for at_s in (5.0, 1.0):
        table.set("earlier", at_s)
    assert len(table) == 2
    assert all_due(table, 4.0) == {"earlier"}
    assert all_due(table, 5.0) == {"later"}


def test_a_dropped_deadline_is_never_due() -> None:
    """Dropping an unknown item changes nothing; a dropped item may be added again."""
    table = Deadlines[str]()
    table.set("a", 1.0)
    table.drop("a")
    table.drop("a")
    assert ("a" in table, all_due(table, 9.0)) == (False, set())
    table.set("a", 1.0)
    assert ("a" in table, all_due(table, 9.0)) == (True, {"a"})


def test_a_table_keeps_nothing_of_past_items() -> None:
    """Past slots are removed, and so are later ones whose items have all moved."""
    table = Deadlines[str]()
    for number in range(100):
        table.set("polls", float(number))
        table.due(number - 1.0)
    assert len(table._slots) <= 3
    day_s = 86_400.0
    for number in range(2_000):
        table.set(f"log{number % 22}", day_s + number * SLOT_S)
        assert len(table._slots) <= 23
        assert len(table._numbers) <= 2 * len(table._slots) + SPARE_NUMBERS
    assert all_due(table, day_s) == {"polls"}
    assert all_due(table, 2 * day_s) == {f"log{number}" for number in range(22)}
    assert (table._slots, table._numbers) == ({}, [])


def test_a_table_keeps_nothing_of_many_dropped_items() -> None:
    """Nor does it lose the others."""
    table = Deadlines[str]()
    for number in range(1_000):
        table.set(str(number), float(number))
    for number in range(1, 1_000):
        table.drop(str(number))
    assert len(table._slots) == 1
    assert len(table._numbers) <= 2 + SPARE_NUMBERS
    assert all_due(table, 1_000.0) == {"0"}


def test_a_slot_may_come_again() -> None:
    """Its items are due once, also where its number is still known."""
    table = Deadlines[str]()
    for _ in range(3):
        table.set("a", 1.0)
        table.drop("a")
    table.set("a", 1.0)
    table.set("b", 1.0)
    assert all_due(table, 1.0) == {"a", "b"}
    table.set("a", 1.0)
    assert all_due(table, 1.0) == {"a"}
