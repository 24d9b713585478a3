"""Traces: notes of what happens to the events of a user, a channel or a connection.

A trace is bounded in time and size. Its notes have no payloads, only their length, unless somebody has asked for them.
"""

from collections import OrderedDict, deque
from collections.abc import Callable
from enum import Enum
from itertools import islice, takewhile
from typing import assert_never

from msgspec import Struct
from msgspec.structs import replace

from channelstream.core.events import (
    Event,
    Message,
    MessageDeleted,
    MessageEdited,
    Presence,
    UsersLeft,
    UserStateChanged,
)
from channelstream.core.explain import Outcome, OutcomeSummary

MAX_TRACES = 8
"""Traces of a node; at the bound a new one replaces one that has ended, and is refused while all of them run."""
MAX_MINUTES = 60
"""Longest time of a trace."""
MAX_NOTES = 500
"""Notes of one trace; at the bound the oldest is dropped."""
MAX_OUTCOMES = 50
"""Outcomes listed in a note; all are counted."""
NOTHING = OutcomeSummary()
PAYLOAD_BYTES = 2048
"""Most bytes of a payload that a note has; the rest is cut off."""
PAYLOADS_BYTES = 256 * 1024
"""Bytes of all payloads of a trace; at the bound the oldest are dropped, and their notes stay."""
NOTES_PER_ANSWER = 100
"""Notes in one answer; the next request names the last one that it has."""


class Kind(Enum):
    """Kinds of subjects of a trace."""

    USER = "user"
    CHANNEL = "channel"
    CONN_ID = "conn_id"


class Subject(Struct, frozen=True):
    """The user, channel or connection that a trace follows."""

    kind: Kind
    name: str


class FactKind(Enum):
    """Kinds of facts."""

    ACCEPTED = "accepted"
    REPEATED = "repeated"
    REPLAYED = "replayed"
    LOST = "lost"
    ATTACHED = "attached"
    DETACHED = "detached"
    SLOW = "slow"
    CLOSED = "closed"


class Fact(Struct, frozen=True, kw_only=True):
    """Something that happened to an event or to a connection.

    Attributes:
        type: the type of the event's items on the wire.
        by: the user who sent the event, or whom it is about.
        size: bytes of its payload.
        payload: the first `PAYLOAD_BYTES` of it, if somebody has asked for payloads and it is not dropped.
        conn_id: the connection it happened to, with its `user`.
        outcomes: the first `MAX_OUTCOMES`.
        counts: the number of outcomes of each fate.
    """

    what: FactKind
    type: str | None = None
    uuid: str | None = None
    channel: str | None = None
    by: str | None = None
    size: int | None = None
    payload: str | None = None
    position: str | None = None
    conn_id: str | None = None
    user: str | None = None
    text: str = ""
    outcomes: tuple[Outcome, ...] = ()
    counts: dict[str, int] = {}


class Note(Struct, frozen=True):
    """A fact with its number in its trace, which begins at 1, and its time in epoch seconds."""

    number: int
    at_s: float
    fact: Fact


class Asked(Struct, frozen=True):
    """Who has asked for the payloads of a trace, and when, in epoch seconds."""

    by: str
    at_s: float


class Trace:
    """The notes about one subject.

    Attributes:
        until_s: when it ends, in the engine's clock.
        noted: the number of notes so far, those dropped included.
        asked: who has asked for payloads; None if nobody has.
    """

    def __init__(self, subject: Subject, until_s: float, asked: Asked | None = None) -> None:
        self.subject = subject
        self.until_s = until_s
        self.noted = 0
        self.asked = asked
        self._notes: deque[Note] = deque(maxlen=MAX_NOTES)
        self._payloads: OrderedDict[int, bytes] = OrderedDict()
        """By the numbers of their notes."""
        self._payload_bytes = 0

    def restart(self, until_s: float, asked: Asked | None) -> None:
        """Go on until another time. The notes stay, but not the payloads that somebody has asked for before."""
        self.until_s = until_s
        self.drop_payloads()
        self.asked = asked

    def note(self, at_s: float, fact: Fact, payload: bytes | None = None) -> None:
        """Note a fact, with the payload of its event if somebody has asked for payloads."""
        self.noted += 1
        self._notes.append(Note(self.noted, at_s, fact))
        if payload is not None and self.asked is not None:
            self._payloads[self.noted] = payload[:PAYLOAD_BYTES]
            self._payload_bytes += len(self._payloads[self.noted])
            while self._payload_bytes > PAYLOADS_BYTES:
                self._payload_bytes -= len(self._payloads.popitem(last=False)[1])

    def drop_payloads(self) -> None:
        """Forget the payloads, and who has asked for them."""
        self.asked = None
        self._payloads.clear()
        self._payload_bytes = 0

    def _whole(self, note: Note) -> Note:
        """Return a note with its payload, if that is kept. Half a character at the cut is left out."""
        payload = self._payloads.get(note.number)
        if payload is None:
            return note
        return replace(note, fact=replace(note.fact, payload=payload.decode(errors="ignore")))

    def after(self, number: int, passes: Callable[[Fact], bool]) -> list[Note]:
        """Return the oldest notes after a number whose fact passes, at most `NOTES_PER_ANSWER`."""
        found = (note for note in self._notes if note.number > number and passes(note.fact))
        return list(map(self._whole, islice(found, NOTES_PER_ANSWER)))

    def newest_after(self, number: int, passes: Callable[[Fact], bool]) -> list[Note]:
        """Return the newest notes after a number whose fact passes, oldest first, at most `NOTES_PER_ANSWER`."""
        newer = takewhile(lambda note: note.number > number, reversed(self._notes))
        found = islice((note for note in newer if passes(note.fact)), NOTES_PER_ANSWER)
        return list(map(self._whole, found))[::-1]


def event_fact(
    what: FactKind, event: Event, position: str | None = None, summary: OutcomeSummary = NOTHING
) -> Fact:
    """Describe an event without its payload, and its outcomes."""
    payload = getattr(event, "payload", None)
    return Fact(
        what=what,
        type=_type_of(event),
        uuid=event.uuid,
        channel=event.channel,
        by=getattr(event, "user", None),
        size=None if payload is None else len(payload),
        position=position,
        outcomes=summary.samples,
        counts=summary.counts,
    )


def _type_of(event: Event) -> str:
    """Return the type of an event's items in the 0.7 protocol."""
    match event:
        case Message():
            return "message"
        case MessageEdited():
            return "message:edit"
        case MessageDeleted():
            return "message:delete"
        case Presence() | UsersLeft():
            return "presence"
        case UserStateChanged():
            return "user_state_change"
        case _:
            assert_never(event)
