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
from channelstream.core.trace import FactKind, event_fact

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
