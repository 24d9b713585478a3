"""Recent changes: what is sent of an entry that was delivered, buffered or read before them."""

from msgspec.structs import replace

from channelstream.core.changes import (
    KEPT,
    KEPT_BYTES,
    Changes,
    RecentChanges,
    compacted,
    current_forms,
    forms_for,
)
from channelstream.core.entry import Entry
from channelstream.core.events import Event, Message, MessageDeleted, MessageEdited


def entry(offset: int, event: Event) -> Entry:
    return Entry(offset, ("e",), 0.0, event)


def message(offset: int, uuid: str = "m", channel: str | None = "a", **rest: object) -> Entry:
    return entry(offset, Message(uuid=uuid, channel=channel, user="u", payload=b"1", timestamp="t", **rest))  # type: ignore[arg-type]


def edit(offset: int, payload: bytes | None = b"2", user: str | None = None, **rest: object) -> Entry:
    made = MessageEdited(uuid="m", channel="a", edited="e", payload=payload, user=user, **rest)  # type: ignore[arg-type]
    return entry(offset, made)


def delete(offset: int, channel: str | None = "a", **rest: object) -> Entry:
    return entry(offset, MessageDeleted(uuid="m", channel=channel, **rest))  # type: ignore[arg-type]


def summary(entries: object) -> list[tuple[int, str, object]]:
    """Number, type and text of each entry."""
    return [
        (each.offset, type(each.event).__name__, getattr(each.event, "payload", None))
        for each in entries  # type: ignore[attr-defined]
    ]


ANN = frozenset({"ann"})


def test_changes_are_remembered_in_order() -> None:
    """From any offset that is still remembered."""
    recent = RecentChanges()
    first, second = delete(1), edit(2)
    for each in (first, second):
        recent.add(each, needed=0)
    assert [recent.after(number) for number in range(3)] == [[first, second], [second], []]


def test_only_so_many_are_remembered() -> None:
    """By count and by bytes; those that wait for a flush are all remembered."""
    for big, count in ((False, KEPT), (True, 4)):
        recent, size = RecentChanges(), KEPT_BYTES // 9 if big else 1
        for number in range(1, count + 3):
            recent.add(edit(number, b"x" * size), needed=number)
        assert recent.after(1) is None
        kept = recent.after(2)
        assert kept is not None
        assert len(kept) == count
    for number in range(KEPT * 2):
        recent.add(delete(number), needed=6)
    assert len(recent.after(6) or ()) == KEPT * 2


def test_a_list_has_only_the_current_forms() -> None:
    """A message with its newest text, one edit with all changes; of a deleted message only the deletion."""
    other = message(3, "other")
    edits = [message(1), edit(2, user="v"), other, edit(4, b"3")]
    assert summary(compacted(edits)) == [
        (1, "Message", b"3"),
        (3, "Message", b"1"),
        (4, "MessageEdited", b"3"),
    ]
    last = compacted(edits)[-1].event
    assert isinstance(last, MessageEdited)
    assert last.user == "v"
    gone = [*edits, delete(5), delete(6)]
    assert summary(compacted(gone)) == [(3, "Message", b"1"), (6, "MessageDeleted", None)]


def test_an_edit_of_an_edit_has_what_both_have_changed() -> None:
    """Whichever users they are for: all of these clients get both."""
    for older, newer in ((ANN, None), (ANN | {"bob"}, ANN | {"cid"}), (None, ANN)):
        [both] = compacted([edit(1, b"2", only=older), edit(2, None, "v", only=newer)])
        assert (both.offset, both.event) == (2, edit(2, b"2", "v", only=newer).event)


def test_an_edit_that_is_sent_apart_from_a_newer_one_has_what_only_it_has_changed() -> None:
    """With what the newer one has changed, which is sent later: in the next part of a flush, or after what was read."""
    older, newer, text = edit(1, b"2", "u", only=ANN), edit(2, None, "v"), edit(2, b"3", "v")
    for apart in (
        lambda change: forms_for("ann", [older], [change]),
        lambda change: current_forms([older], Changes([older, change]), [change]),
    ):
        [left] = apart(newer)
        assert (left.offset, left.event) == (1, edit(1, b"2", "v", only=ANN).event)
        assert apart(text) == []


def test_an_edit_takes_over_nothing_that_is_outdated() -> None:
    """These clients were not sent the edit in between: they have made it themselves."""
    older, between, newer = edit(1, b"old"), edit(2, b"new"), edit(3, None, "v")
    between = between.with_event(replace(between.event, exclude=ANN))
    assert current_forms([older, newer], Changes([older, between, newer])) == [newer]


def test_unchanged_entries_are_returned_as_they_are() -> None:
    """The usual case costs nothing."""
    entries = [message(1), message(2, "other")]
    assert current_forms(entries, Changes()) is entries


def test_a_change_counts_for_those_who_are_not_sent_it() -> None:
    """Where it covers all recipients of an entry; a change for some leaves the entry to the others."""
    pending = [message(1), message(2, "other"), message(3, channel="b")]
    assert summary(current_forms(pending, Changes([delete(4, exclude=ANN)]))) == [
        (2, "Message", b"1"),
        (3, "Message", b"1"),
    ]
    assert summary(current_forms(pending[:1], Changes([edit(4)]))) == [(1, "Message", b"2")]
    assert summary(current_forms(pending[:1], Changes([edit(4), delete(5), edit(6)]))) == []
    assert current_forms(pending[:1], Changes([delete(4, only=ANN)])) == pending[:1]
    private = message(1, channel=None, only=ANN)
    assert current_forms([private], Changes([delete(2, channel=None, only=ANN | {"bob"})])) == []


def test_the_last_change_wins_for_each_recipient() -> None:
    """An edit for all does not undo a later one for some, in the same list."""
    first, later = edit(2, b"2"), edit(3, b"3", only=ANN)
    assert summary(current_forms([message(1), first, later], Changes([first, later]))) == [
        (1, "Message", b"3"),
        (3, "MessageEdited", b"3"),
    ]


def test_an_older_change_does_not_touch_a_newer_entry() -> None:
    """A message that is published again after its deletion was forgotten is another one."""
    assert summary(current_forms([message(5)], Changes([delete(4)]))) == [(5, "Message", b"1")]


def test_a_user_is_not_sent_what_a_change_about_it_supersedes() -> None:
    """Whether the change is for all or for some; a change about others does not count."""
    entries = [message(1), message(2, "other")]
    for user, change, left in (
        ("ann", delete(3, only=ANN), [2]),
        ("bob", delete(3, only=ANN), [1, 2]),
        ("bob", delete(3), [2]),
    ):
        assert [each.offset for each in forms_for(user, entries, [change])] == left
