"""Traces: what happened to the messages of a user, a channel or a connection, noted while somebody looks.

A trace is bounded in time and size. No payload is noted, only how long it is.
"""

from collections import deque
from enum import Enum
from itertools import islice

from msgspec import Struct

from channelstream.core.events import Event, Message, MessageDeleted, MessageEdited, Presence, UsersLeft
from channelstream.core.explain import Outcome, Told

TRACES = 8
"""Kept at a time; at the bound one that has ended makes room, and where all are running a new one is refused."""
MINUTES = 60
"""The longest time a trace runs."""
NOTES = 500
"""Kept of one trace; at the bound the oldest is forgotten."""
NAMED = 50
"""Outcomes written out in a note; all are counted."""
NOTHING = Told()
ANSWERED = 100
"""Notes given at once; whoever asks goes on from the last one."""


class Kind(Enum):
    """What can be traced."""

    USER = "user"
    CHANNEL = "channel"
    CONN_ID = "conn_id"


class Subject(Struct, frozen=True):
    """Who or what is traced."""

    kind: Kind
    name: str


class What(Enum):
    """What a note tells."""

    ACCEPTED = "accepted"
    REPEATED = "repeated"
    REPLAYED = "replayed"
    LOST = "lost"
    ATTACHED = "attached"
    DETACHED = "detached"
    SLOW = "slow"
    CLOSED = "closed"


class Fact(Struct, frozen=True, kw_only=True):
    """What happened, of an event or of a connection.

    Attributes:
        type: of the event, as the clients see it.
        by: the user who sent it, or whom it is about.
        size: bytes of its payload.
        conn_id: the connection it happened to, with its `user`.
        outcomes: the first `NAMED`; `counts` has all of them, by fate.
    """

    what: What
    type: str | None = None
    uuid: str | None = None
    channel: str | None = None
    by: str | None = None
    size: int | None = None
    position: str | None = None
    conn_id: str | None = None
    user: str | None = None
    text: str = ""
    outcomes: tuple[Outcome, ...] = ()
    counts: dict[str, int] = {}


class Note(Struct, frozen=True):
    """A fact with its number in its trace, from 1, and its time in epoch seconds."""

    number: int
    at_s: float
    fact: Fact


class Trace:
    """The notes about one subject.

    Attributes:
        until_s: when it ends, in the engine's clock.
        noted: how many notes were made, those forgotten included.
    """

    def __init__(self, subject: Subject, until_s: float) -> None:
        self.subject = subject
        self.until_s = until_s
        self.noted = 0
        self._notes: deque[Note] = deque(maxlen=NOTES)

    def note(self, at_s: float, fact: Fact) -> None:
        self.noted += 1
        self._notes.append(Note(self.noted, at_s, fact))

    def after(self, number: int) -> list[Note]:
        """Return the oldest notes that are kept and follow a number, at most `ANSWERED`."""
        return list(islice((note for note in self._notes if note.number > number), ANSWERED))


def event_fact(what: What, event: Event, position: str | None = None, told: Told = NOTHING) -> Fact:
    """Describe an event without its payload, and what became of it."""
    payload = getattr(event, "payload", None)
    return Fact(
        what=what,
        type=_type_of(event),
        uuid=event.uuid,
        channel=event.channel,
        by=getattr(event, "user", None),
        size=None if payload is None else len(payload),
        position=position,
        outcomes=told.first,
        counts=told.counts,
    )


def _type_of(event: Event) -> str:
    return _TYPES.get(type(event), "user_state_change")


_TYPES: dict[type[Event], str] = {
    Message: "message",
    MessageEdited: "message:edit",
    MessageDeleted: "message:delete",
    Presence: "presence",
    UsersLeft: "presence",
}
