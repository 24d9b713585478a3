"""Facts of a trace: how an event is described."""

from typing import get_args

import pytest

from channelstream.core.events import (
    Event,
    Message,
    MessageDeleted,
    MessageEdited,
    Presence,
    UserLeft,
    UsersLeft,
    UserStateChanged,
)
from channelstream.core.trace import (
    NOTES_PER_ANSWER,
    Fact,
    FactKind,
    Kind,
    Subject,
    Trace,
    event_fact,
)
from channelstream.core.trace_filter import EVERYTHING, NoteFilter

TYPES: list[tuple[Event, str]] = [
    (Message(uuid="m", user="ann", payload=b"123", timestamp="t"), "message"),
    (MessageEdited(uuid="m", edited="e", payload=b"12"), "message:edit"),
    (MessageDeleted(uuid="m"), "message:delete"),
    (Presence(uuid="p", user="ann", joined=True, timestamp="t", state={}), "presence"),
    (UsersLeft(uuid="p", departures=(UserLeft("ann", "p", 0),), timestamp="t"), "presence"),
    (UserStateChanged(uuid="s", user="ann", timestamp="t", state={}, changed=()), "user_state_change"),
]


@pytest.mark.parametrize(("event", "name"), TYPES, ids=lambda value: type(value).__name__)
def test_a_fact_names_the_type_of_its_event(event: Event, name: str) -> None:
    """As its items have it on the wire."""
    assert event_fact(FactKind.ACCEPTED, event).type == name


def test_every_type_of_event_has_a_name() -> None:
    assert {type(event) for event, _ in TYPES} == set(get_args(Event))


def test_a_fact_has_the_size_of_the_payload_only() -> None:
    facts = [event_fact(FactKind.ACCEPTED, event) for event, _ in TYPES]
    assert [fact.size for fact in facts] == [3, 2, None, None, None, None]
    assert [fact.by for fact in facts] == ["ann", None, None, "ann", None, "ann"]


def test_the_newest_notes_are_in_the_order_of_their_numbers() -> None:
    """As many as one answer has, of those that the reader lacks."""
    trace = Trace(Subject(Kind.USER, "bob"), 1.0)
    for _ in range(NOTES_PER_ANSWER + 5):
        trace.note(0.0, Fact(what=FactKind.SLOW))
    assert [note.number for note in trace.newest_after(0, EVERYTHING.passes)] == list(
        range(6, NOTES_PER_ANSWER + 6)
    )
    assert trace.newest_after(0, NoteFilter(user="zoe").passes) == []
    assert [note.number for note in trace.newest_after(NOTES_PER_ANSWER + 3, EVERYTHING.passes)] == [104, 105]
