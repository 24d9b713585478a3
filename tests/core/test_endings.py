"""The record of ended streams."""

from itertools import islice

import pytest

from channelstream.core.endings import (
    GROUPS,
    KEPT_OF_GROUP,
    OTHER,
    OTHER_REASONS,
    REASON_CHARACTERS,
    Ending,
    Endings,
    Group,
    code_label,
)


def ending(number: int, conn_id: str = "a", reason: str = "too slow", code: int | None = 4008) -> Ending:
    return Ending(float(number), conn_id, "ann", code, reason, final=False)


def test_the_latest_come_first() -> None:
    """Endings are listed newest first, as many as asked for."""
    endings = Endings()
    for number in range(5):
        endings.add(ending(number))
    assert [each.at_s for each in islice(endings, 3)] == [4.0, 3.0, 2.0]


def test_the_oldest_of_a_group_is_forgotten() -> None:
    """At both bounds: that of all endings, and that of each group besides."""
    endings = Endings(kept=2)
    for number in range(KEPT_OF_GROUP + 5):
        endings.add(ending(number))
    assert [each.at_s for each in endings] == [float(KEPT_OF_GROUP + 4 - number) for number in range(22)]


def test_routine_endings_push_no_other_out() -> None:
    """However many they are; all are in the order of their time."""
    endings = Endings(kept=10)
    endings.add(ending(0, reason="rare"))
    for number in range(1, 801):
        endings.add(ending(number))
    found = list(endings)
    assert (len(found), found[-1].reason) == (10 + KEPT_OF_GROUP + 1, "rare")
    assert [each.at_s for each in found] == sorted((each.at_s for each in found), reverse=True)


def test_endings_are_counted_by_code_and_reason() -> None:
    endings = Endings(kept=1)
    for reason in ("one", "two", "one"):
        endings.add(ending(0, reason=reason))
    assert endings.counts == {Group("4008", False, "one"): 2, Group("4008", False, "two"): 1}


def test_groups_are_bounded() -> None:
    """Whatever the reasons are: those that come too late are one for each code, and long ones are cut."""
    endings = Endings(kept=1)
    for number in range(10 * GROUPS):
        endings.add(ending(number, reason=f"{number}" + "x" * 1000, code=4000 + number))
    assert len(endings.counts) <= GROUPS + 3
    assert max(len(group.reason) for group in endings.counts) == REASON_CHARACTERS
    assert endings.counts[Group(OTHER, False, OTHER_REASONS)] == 9 * GROUPS
    assert len(list(endings)) <= 1 + KEPT_OF_GROUP * len(endings.counts)


@pytest.mark.parametrize(
    ("code", "label"), [(None, "none"), (1000, "1000"), (1001, "1001"), (4001, "4001"), (4999, "other")]
)
def test_a_code_is_one_of_few_texts(code: int | None, label: str) -> None:
    assert code_label(code) == label


def test_a_connection_has_its_own() -> None:
    """Only endings of this connection are listed, up to the count."""
    endings = Endings()
    for number in range(6):
        endings.add(ending(number, "ab"[number % 2]))
    assert [each.at_s for each in endings.of("b", 2)] == [5.0, 3.0]
