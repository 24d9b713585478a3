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
    PAYLOAD_BYTES,
    PAYLOADS_BYTES,
    Asked,
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


SLOW = Fact(what=FactKind.SLOW)
ASKED = Asked("boss", 7.0)


def payloads(trace: Trace) -> list[str | None]:
    """Return the payloads of all notes."""
    found: list[str | None] = []
    number = 0
    while notes := trace.after(number, EVERYTHING.passes):
        found += [note.fact.payload for note in notes]
        number = notes[-1].number
    return found


def test_payloads_are_kept_only_where_somebody_has_asked() -> None:
    """Not those of before, and not of a fact without one."""
    trace = Trace(Subject(Kind.USER, "bob"), 1.0)
    trace.note(0.0, SLOW, b"1")
    trace.restart(2.0, ASKED)
    trace.note(0.0, SLOW, b"2")
    trace.note(0.0, SLOW)
    assert (payloads(trace), trace.asked, trace.until_s) == ([None, "2", None], ASKED, 2.0)
    assert [note.fact.payload for note in trace.newest_after(1, EVERYTHING.passes)] == ["2", None]
    trace.restart(3.0, Asked("another", 8.0))
    assert payloads(trace) == [None] * 3
    trace.note(0.0, SLOW, b"3")
    trace.drop_payloads()
    trace.note(0.0, SLOW, b"4")
    assert (payloads(trace), trace.asked) == ([None] * 5, None)


def test_a_long_payload_is_cut_at_a_character() -> None:
    trace = Trace(Subject(Kind.USER, "bob"), 1.0, ASKED)
    trace.note(0.0, SLOW, b"x" + "\u00e9".encode() * PAYLOAD_BYTES)
    assert payloads(trace) == ["x" + "\u00e9" * ((PAYLOAD_BYTES - 1) // 2)]


def test_all_payloads_of_a_trace_are_bounded() -> None:
    """The oldest are dropped, and their notes stay."""
    trace = Trace(Subject(Kind.USER, "bob"), 1.0, ASKED)
    fitting = PAYLOADS_BYTES // PAYLOAD_BYTES
    for _ in range(fitting + 2):
        trace.note(0.0, SLOW, b"x" * PAYLOAD_BYTES)
    assert [payload is None for payload in payloads(trace)] == [*[True] * 2, *[False] * fitting]
    trace.note(0.0, SLOW, b"new")
    assert payloads(trace)[2:4] == [None, "x" * PAYLOAD_BYTES]
    trace.restart(2.0, ASKED)
    for _ in range(fitting):
        trace.note(0.0, SLOW, b"x" * PAYLOAD_BYTES)
    assert sum(payload is not None for payload in payloads(trace)) == fitting
