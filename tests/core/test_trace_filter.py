"""Which notes of a trace are shown."""

from typing import get_args

import pytest

from channelstream.core.events import Event
from channelstream.core.explain import Fate, Outcome
from channelstream.core.trace import Fact, FactKind
from channelstream.core.trace_filter import EVENT_TYPES, EVERYTHING, NOT_DELIVERED, OUTCOMES, NoteFilter

SENT = Fact(
    what=FactKind.ACCEPTED, type="message", channel="news", by="zoe",
    outcomes=(Outcome(Fate.SLOW, "b", "bob"),), counts={Fate.SLOW.value: 1, Fate.DELIVERED.value: 9},
)  # fmt: skip
GOT = Fact(what=FactKind.ACCEPTED, type="presence", channel="news", counts={Fate.DELIVERED.value: 9})
LOST = Fact(what=FactKind.LOST, channel="room", user="ann", conn_id="a")
ALL = (SENT, GOT, LOST)


@pytest.mark.parametrize(
    ("chosen", "passing"),
    [
        (EVERYTHING, ALL),
        (NoteFilter(user="zoe"), (SENT,)),
        (NoteFilter(user="bob"), (SENT,)),
        (NoteFilter(user="ann"), (LOST,)),
        (NoteFilter(channel="news"), (SENT, GOT)),
        (NoteFilter(conn_id="a"), (LOST,)),
        (NoteFilter(conn_id="b"), (SENT,)),
        (NoteFilter(conn_id="c"), ()),
        (NoteFilter(type="presence"), (GOT,)),
        (NoteFilter(outcome=NOT_DELIVERED), (SENT, LOST)),
        (NoteFilter(outcome="delivered"), (SENT, GOT)),
        (NoteFilter(outcome=Fate.SLOW.value), (SENT,)),
        (NoteFilter(outcome="lost"), (LOST,)),
        (NoteFilter(user="bob", type="presence"), ()),
    ],
    ids=str,
)
def test_a_note_has_all_that_is_asked_for(chosen: NoteFilter, passing: tuple[Fact, ...]) -> None:
    assert tuple(fact for fact in ALL if chosen.passes(fact)) == passing


def test_each_outcome_can_be_asked_for() -> None:
    assert len(OUTCOMES) == len(set(OUTCOMES)) == len(Fate) + len(FactKind)
    assert len(EVENT_TYPES) == len(get_args(Event)) - 1, "UsersLeft and Presence are both presence"
