"""What the log accepts of an event, by what it has about the same message."""

import pytest
from msgspec.structs import replace
from tests.core.test_compaction import delete, edit, message, names

from channelstream.core import acceptance
from channelstream.core.acceptance import accept, late_forms, split_early
from channelstream.core.compaction import without
from channelstream.core.events import Event, Message, MessageEdited


def early(only: str | None = None, payload: bytes | None = b"2") -> MessageEdited:
    return MessageEdited(uuid="m", channel="a", edited="e", payload=payload, only=names(only), early=True)


@pytest.mark.parametrize(
    ("only", "messages", "parts"),
    [
        (None, [], [early()]),
        (None, [message("a")], [edit()]),
        ("ab", [message()], [edit("ab")]),
        ("ab", [message("a"), message("bc")], [edit("ab")]),
        ("ab", [message("c")], [early("ab")]),
        ("abc", [message("b")], [edit("b"), early("ac")]),
    ],
)
def test_an_edit_is_early_for_users_without_the_message(
    only: str | None, messages: list[Message], parts: list[MessageEdited]
) -> None:
    assert split_early(edit(only), messages) == parts


def edited(only: str | None = None, exclude: str | None = None, payload: bytes = b"2") -> Message:
    return replace(message(only, exclude, payload), edited="e")


@pytest.mark.parametrize(
    ("late", "edits", "forms"),
    [
        (message(), [], [message()]),
        (message(), [early()], [edited()]),
        (message("ab"), [early("abc")], [edited("ab")]),
        (message("ab"), [early("c")], [message("ab")]),
        (message("ab"), [early("bc")], [message("a"), edited("b")]),
        (message(), [early("b")], [message(exclude="b"), edited("b")]),
        (
            message(),
            [early("a"), early("b", b"3")],
            [message(exclude="ab"), edited("a"), edited("b", None, b"3")],
        ),
        (message(), [early(), early("b", b"3")], [edited(exclude="b"), edited("b", None, b"3")]),
        (message("ab"), [early("ab"), early("c")], [edited("ab")]),
        (message("abc", "c"), [early("bc")], [message("a", "c"), edited("bc", "c")]),
    ],
)
def test_a_message_comes_after_its_early_edits_in_their_form(
    late: Message, edits: list[MessageEdited], forms: list[Message]
) -> None:
    """For the users of each edit; the others get it as it is."""
    assert late_forms(late, edits) == forms


@pytest.mark.replaces_compiled
def test_very_many_early_edits_are_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not once for each form that the others have made."""
    looks = 0

    def counted(event: Message, users: frozenset[str] | None) -> Message | None:
        nonlocal looks
        looks += 1
        return without(event, users)

    monkeypatch.setattr(acceptance, "without", counted)
    edits = [replace(early(), only=frozenset({str(number)})) for number in range(100)]
    assert len(late_forms(message(), edits)) == len(edits) + 1
    assert looks == 1


@pytest.mark.parametrize(
    ("event", "known", "outcome", "new"),
    [
        (message(), [], (False, False), [message()]),
        (message(), [message()], (True, True), []),
        (message("ab"), [message("a")], (False, True), [message("b")]),
        (message(), [delete()], (True, False), []),
        (message(), [edit()], (True, True), []),
        (message(), [early()], (False, False), [edited()]),
        (message(), [early(), delete()], (True, False), []),
        (message(), [early("a"), delete("b")], (False, True), [message(exclude="ab"), edited("a")]),
        (edit(), [], (False, False), [early()]),
        (edit(), [message()], (False, True), [edit()]),
        (edit(), [edit()], (False, True), [edit()]),
        (edit("ab"), [edit("a")], (False, True), [edit("a"), early("b")]),
        (edit("b"), [edit("a")], (False, False), [early("b")]),
        (edit(), [early()], (False, False), [early()]),
        (edit(), [delete()], (True, False), []),
        (edit("ab"), [delete("a")], (False, False), [early("b")]),
        (edit("ab", exclude="a"), [message("a"), delete("b")], (False, True), [edit("a", exclude="a")]),
        (edit("ab", exclude="a"), [delete("ab")], (True, False), []),
        (delete(), [], (False, False), [delete()]),
        (delete(), [message()], (False, True), [delete()]),
        (delete("a"), [message("b")], (False, False), [delete("a")]),
        (delete("a"), [message(exclude="a"), edit("a")], (False, True), [delete("a")]),
        (delete(), [early()], (False, False), [delete()]),
        (delete(), [delete()], (False, False), [delete()]),
    ],
)
def test_the_outcome_tells_a_duplicate_and_an_unknown_message(
    event: Event, known: list[Event], outcome: tuple[bool, bool], new: list[Event]
) -> None:
    """The outcome says whether it is a duplicate, and whether the message is known."""
    accepted, events = accept(event, known)
    assert ((accepted.duplicate, accepted.found), events) == (outcome, new)
