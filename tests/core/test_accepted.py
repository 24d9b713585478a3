"""The outcome of an event by those of its parts."""

import pytest
from msgspec.structs import replace
from tests.core.test_compaction import message

from channelstream.core.accepted import Accepted, combined

NEW = Accepted(message("a"), duplicate=False, found=False)
FOUND = Accepted(message("b"), duplicate=False, found=True)
REPEATED = Accepted(message("c", payload=b"9"), duplicate=True, found=True)
DELETED = Accepted(message("d"), duplicate=True, found=False)
NOBODY = Accepted(message("e"), duplicate=False, found=False, reaches_nobody=True)
EVENT = message("abcde", "e")


@pytest.mark.parametrize(
    ("parts", "outcome"),
    [
        ([NEW, REPEATED], Accepted(EVENT, duplicate=False, found=True)),
        ([NEW, DELETED], Accepted(EVENT, duplicate=False, found=False)),
        ([NOBODY, FOUND], Accepted(EVENT, duplicate=False, found=True)),
        ([NOBODY, NEW], Accepted(EVENT, duplicate=False, found=False)),
        ([NOBODY, NOBODY], Accepted(EVENT, duplicate=False, found=False, reaches_nobody=True)),
        ([NOBODY, DELETED], Accepted(EVENT, duplicate=True, found=False)),
        (
            [DELETED, NOBODY, REPEATED],
            Accepted(replace(EVENT, payload=b"9"), duplicate=True, found=True),
        ),
    ],
)
def test_an_event_is_a_duplicate_if_all_parts_are_that_reach_anybody(
    parts: list[Accepted], outcome: Accepted
) -> None:
    """It is answered in the form that the log has, for all its users."""
    assert combined(EVENT, parts) == outcome


def test_an_event_in_one_part_has_its_outcome() -> None:
    assert combined(EVENT, [REPEATED]) is REPEATED
