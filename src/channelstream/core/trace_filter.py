"""Which notes of a trace are shown."""

from msgspec import Struct

from channelstream.core.explain import Fate
from channelstream.core.trace import Fact, FactKind

NOT_DELIVERED = "not delivered"
OUTCOMES = (
    NOT_DELIVERED,
    *(fate.value for fate in Fate),
    *(kind.value for kind in FactKind if kind is not FactKind.ACCEPTED),
)
"""What can be asked for as an outcome: any but delivered, a fate, or what else happened to an event or a connection."""
EVENT_TYPES = ("message", "message:edit", "message:delete", "presence", "user_state_change")
"""The types of events, as a fact names them."""


class NoteFilter(Struct, frozen=True):
    """What a note must have to be shown; None means anything.

    Attributes:
        user: who sent the event, whom it is about, or who is named in an outcome.
        conn_id: the connection of the fact, or one that is named in an outcome.
        type: of the event.
        outcome: one of `OUTCOMES`.
    """

    user: str | None = None
    channel: str | None = None
    conn_id: str | None = None
    type: str | None = None
    outcome: str | None = None

    def passes(self, fact: Fact) -> bool:
        return (
            self.channel in (None, fact.channel)
            and self.type in (None, fact.type)
            and (
                self.user in (None, fact.user, fact.by)
                or any(each.user == self.user for each in fact.outcomes)
            )
            and (
                self.conn_id in (None, fact.conn_id)
                or any(each.conn_id == self.conn_id for each in fact.outcomes)
            )
            and (self.outcome is None or _has_outcome(fact, self.outcome))
        )


def _has_outcome(fact: Fact, outcome: str) -> bool:
    if outcome != NOT_DELIVERED:
        return outcome == fact.what.value or outcome in fact.counts
    return fact.what is FactKind.LOST or any(fate != Fate.DELIVERED.value for fate in fact.counts)


EVERYTHING = NoteFilter()
