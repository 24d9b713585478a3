"""Compaction: what a change leaves of an event, and for which users."""

import pytest
from msgspec.structs import replace

from channelstream.core import compaction
from channelstream.core.compaction import (
    MAX_EXCLUDED,
    affects,
    covers,
    current,
    first_form,
    loses,
    merged,
    retained,
    superseded,
    unknown_part,
    without,
)
from channelstream.core.events import Event, Message, MessageDeleted, MessageEdited, Names, Presence


def names(text: str | None) -> Names | None:
    """Users of one letter each; None stays None."""
    return None if text is None else frozenset(text)


def message(only: str | None = None, exclude: str | None = None, payload: bytes = b"1") -> Message:
    return Message(
        uuid="m",
        channel="a",
        user="u",
        payload=payload,
        timestamp="t",
        only=names(only),
        exclude=names(exclude),
    )


def edit(
    only: str | None = None, payload: bytes | None = b"2", user: str | None = None, exclude: str | None = None
) -> MessageEdited:
    return MessageEdited(
        uuid="m",
        channel="a",
        edited="e",
        payload=payload,
        user=user,
        only=names(only),
        exclude=names(exclude),
    )


def delete(only: str | None = None) -> MessageDeleted:
    return MessageDeleted(uuid="m", channel="a", only=names(only))


EDITED = Message(uuid="m", channel="a", user="u", payload=b"2", timestamp="t", edited="e")


@pytest.mark.parametrize(
    ("change", "event", "left"),
    [
        (delete(), message(), None),
        (delete(), message("ab"), None),
        (delete("ab"), message("ab"), None),
        (delete("ab"), message("abc", exclude="c"), None),
        (delete("a"), message("ab"), message("b")),
        (delete("a"), message(), message(exclude="a")),
        (delete("a"), message(exclude="b"), message(exclude="ab")),
        (delete("a"), message(exclude="a"), message(exclude="a")),
        (delete("c"), message("ab"), message("ab")),
        (edit(), message(), EDITED),
        (edit("a"), message(), message(exclude="a")),
        (edit(), edit(), None),
        (delete(), edit(), None),
        (delete(), delete(), None),
        (edit(), delete(), delete()),
        (edit("a"), edit("ab"), edit("b")),
    ],
)
def test_a_change_leaves_the_current_form_for_the_others(
    change: Event, event: Event, left: Event | None
) -> None:
    """Nothing of a deleted message, the newest text of an edited one; users not concerned keep the old form."""
    assert retained(event, change) == left
    assert affects(change, event) or left == event


def test_an_unchanged_entry_is_the_same_object() -> None:
    """So that a holder of it can compare by identity."""
    for event, change in (
        (message("ab"), delete("c")),
        (message(exclude="a"), delete("a")),
        (delete(), edit()),
    ):
        assert retained(event, change) is event
    assert not affects(delete("c"), message("ab"))
    assert affects(delete("a"), message("ab"))
    assert affects(delete(), message("ab"))


def test_a_message_deleted_for_many_users_is_lost_for_the_others() -> None:
    """The list of excluded users is bounded where it grows; one that is long already may stay."""
    many = frozenset(map(str, range(MAX_EXCLUDED)))
    one_by_one = retained(message(), MessageDeleted(uuid="m", channel="a", only=many))
    assert one_by_one is not None
    assert one_by_one.exclude == many
    assert not loses(delete("0"), one_by_one)
    assert retained(one_by_one, delete("x")) is None
    assert loses(delete("x"), one_by_one)
    assert not loses(delete(), one_by_one)
    assert not loses(delete("ab"), message("ab"))
    longer = without(one_by_one, frozenset("x"))
    assert longer is not None
    assert retained(longer, delete("x")) is longer
    assert unknown_part(message(), [MessageDeleted(uuid="m", channel="a", only=many | {"x"})]) == longer


def test_an_edit_says_what_the_one_before_has_changed() -> None:
    """If all recipients of the new edit were recipients of that one: no user learns of a change not meant for it."""
    assert merged(edit(payload=None, user="v"), edit()) == edit(user="v")
    assert merged(edit(payload=b"3"), edit()) == edit(payload=b"3")
    assert merged(edit("a", payload=None), edit("ab")) == edit("a")
    for change, older in (
        (edit(payload=None), edit("a")),
        (delete(), edit()),
        (edit(), message()),
        (edit(), delete()),
    ):
        assert merged(change, older) is change


@pytest.mark.parametrize(
    ("change", "older", "is_lost"),
    [
        (edit(payload=None, user="v"), edit("a"), True),
        (edit("ac", payload=None, user="v"), edit("ab"), True),
        (edit(payload=None, user="v"), edit(exclude="a"), True),
        (edit("ab", payload=None, user="v"), edit(exclude="a"), True),
        (edit("ab", payload=None, user="v"), edit("ab", exclude="a"), True),
        (edit("b", payload=None, user="v"), edit(exclude="a"), False),
        (edit(payload=None, user="v", exclude="a"), edit(exclude="a"), False),
        (edit("bc", payload=None, user="v"), edit("a"), False),
        (edit(), edit("a"), False),
        (delete(), edit("a"), False),
        (edit(payload=None, user="v"), message("a"), False),
    ],
)
def test_what_only_an_older_edit_for_some_has_changed_is_lost(
    change: Event, older: Event, is_lost: bool
) -> None:
    """For those who get the newer edit, too, which others get who may not see it."""
    assert loses(change, older) == is_lost
    if is_lost:
        assert merged(change, older) is change


@pytest.mark.parametrize(
    ("event", "known", "rest"),
    [
        (message(), [], message()),
        (message(), [message()], None),
        (message("ab"), [message("a")], message("b")),
        (message("ab"), [message("a"), message("b"), message("c")], None),
        (message(), [message("a"), delete("b")], message(exclude="ab")),
        (edit("a"), [delete()], None),
    ],
)
def test_a_repetition_reaches_those_who_have_not_received_it(
    event: Event, known: list[Event], rest: Event | None
) -> None:
    """No user gets a message twice, or a deleted one."""
    assert unknown_part(event, known) == rest


@pytest.mark.replaces_compiled
def test_a_repetition_is_compared_with_all_known_events_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be copied for each of them, with the names of all before it."""
    copied = []
    monkeypatch.setattr(compaction, "without", lambda *each: copied.append(each) or without(*each))
    assert unknown_part(message(), [message("a"), message("ab"), edit("c")]) == message(exclude="abc")
    assert len(copied) == 1


def test_each_event_leaves_of_the_older_ones_what_concerns_others() -> None:
    """A newer message leaves all of them."""
    first, other = edit("ab"), edit("c")
    later = edit("a", payload=None, user="v")
    assert superseded([message(), first, other], later) == [
        message(exclude="a"), edit("b"), other, edit("a", user="v"),
    ]  # fmt: skip
    assert superseded([first, delete("c")], delete("ab")) == [delete("c"), delete("ab")]
    assert superseded([first], message("d")) == [first, message("d")]


def test_a_repeated_message_has_its_current_form() -> None:
    """The kept form; else with the known edits, or deleted."""
    assert first_form(message(payload=b"9"), [message(), delete("a")]) == message()
    assert first_form(message(), [edit()]) == EDITED
    assert first_form(message(), [edit(), delete()]) is None
    assert first_form(message(), []) == message()


def test_an_event_that_is_no_change_supersedes_nothing() -> None:
    """Changes name the message they are about."""
    joined = Presence(uuid="p", channel="a", user="u", joined=True, timestamp="t", state={})
    assert [event.supersedes for event in (message(), joined, edit(), delete())] == [None, None, "m", "m"]
    assert covers(delete(), joined)
    assert current(joined, edit()) == joined
    assert current(message(), joined) == message()


def test_a_message_in_the_form_of_an_edit_stays_as_it_is() -> None:
    """For all its users, although the edit is for fewer by now: it has been applied."""
    assert retained(EDITED, edit("a")) is EDITED
    assert retained(EDITED, edit("a", b"3")) == replace(EDITED, exclude=names("a"))
