"""Explains why an event reaches a connection or not: the rules of `hub.deliver`, in words.

A trace calls it just before the hub delivers. Delivery itself does not depend on it.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from enum import Enum
from itertools import islice
from operator import attrgetter
from typing import assert_never

from msgspec import Struct

from channelstream.core.batch import BufferBatch
from channelstream.core.connection import Connection, ConnectionState
from channelstream.core.events import Event
from channelstream.core.hub import Hub


class Fate(Enum):
    """The result of one event for one connection, user or channel."""

    DELIVERED = "delivered"
    CATCHING_UP = "buffered: it is catching up"
    BEHIND = "waits in the log: it is catching up, and its buffer is full"
    SLOW = "waits in the log: the client reads too slowly"
    DETACHED = "waits in the log: it has no stream now"
    NEW = "waits in the log: it never had a stream"
    EXCLUDED = "excluded by exclude_users"
    SENDER = "excluded: it has sent the message itself"
    NOT_ADDRESSED = "not in pm_users"
    NOT_A_MEMBER = "not a member of the channel"
    OWN_PRESENCE = "a user is not sent its own presence"
    UNANNOUNCED = "the channel has no notify_presence, which this client needs for presence"
    NO_CONNECTION = "the user has no connection here"
    NO_MEMBERS = "the channel has no members here"
    NO_ADDRESSEE = "it is addressed to no user"


WAITING = frozenset((Fate.CATCHING_UP, Fate.BEHIND, Fate.SLOW, Fate.DETACHED, Fate.NEW))
"""The fates of a recipient that does not have the event yet."""


class Outcome(Struct, frozen=True, gc=False):
    """One fate, with its connection and user.

    Attributes:
        conn_id: None where there is no connection.
        user: None where there is no user.
        wait_s: whole seconds until the connection ends, unless a stream attaches; None if it has one.
    """

    fate: Fate
    conn_id: str | None = None
    user: str | None = None
    wait_s: int | None = None


class OutcomeSummary(Struct, frozen=True):
    """The outcomes of one event, summarized.

    Attributes:
        samples: some outcomes: those that wait first, then those that a rule excludes, and delivered ones last.
        counts: the number of outcomes of each fate, the samples included.
    """

    samples: tuple[Outcome, ...] = ()
    counts: dict[str, int] = {}


def summarize(found: Iterable[Outcome], named: int) -> OutcomeSummary:
    """Summarize outcomes, with at most `named` samples."""
    listed = sorted(found, key=rank)
    return OutcomeSummary(tuple(listed[:named]), dict(Counter(found.fate.value for found in listed)))


def rank(found: Outcome) -> int:
    """Return the place of an outcome among samples: one looks for what was not delivered."""
    return 0 if found.fate in WAITING else 2 if found.fate is Fate.DELIVERED else 1


def summarize_all(hub: Hub, event: Event, now_s: float, named: int) -> OutcomeSummary:
    """Summarize what `outcomes` yields, faster.

    Members with the same fate are counted together: 10,000 take a few milliseconds, which delay the delivery.
    """
    members = _members(hub, event)
    if len(members) <= named:
        return summarize(outcomes(hub, event, now_s), named)
    special = _special(hub, event, members)
    ordinary = [member for member in members if member not in special] if special else members
    found = [outcome(member, event, now_s) for member in special]
    found += _non_members(hub, event, now_s)
    counts = Counter(each.fate for each in found)
    kinds = list(map(_fate_key, ordinary))
    examples = dict(zip(kinds, ordinary, strict=True))
    for kind, count in Counter(kinds).items():
        alike = (outcome(member, event, now_s) for member in ordinary if _fate_key(member) == kind)
        if examples[kind].state is ConnectionState.CATCHING_UP:  # Its buffer decides the fate of each.
            catching_up = list(alike)
            counts.update(each.fate for each in catching_up)
            found += catching_up
        else:
            counts[outcome(examples[kind], event, now_s).fate] += count
            found += islice(alike, named)
    samples = tuple(sorted(found, key=rank)[:named])
    return OutcomeSummary(samples, {fate.value: count for fate, count in counts.items()})


def _special(hub: Hub, event: Event, members: dict[Connection, None]) -> dict[Connection, None]:
    """Return the members with a fate of their own: those whose users the event names, and the one that has sent it."""
    names = (event.only or frozenset()) | (event.exclude or frozenset()) | frozenset(event.about)
    found = [each.receiver for name in names for each in hub.users.get(name, ())]
    if event.exclude_connection in hub.connections:
        found.append(hub.connections[event.exclude_connection])
    return {each: None for each in found if each in members}


_fate_key = attrgetter("state._value_", "protocol.presence._value_")
"""Decides the fate of a member that is neither named nor catching up. Enums by value, which is hashed faster."""


def _members(hub: Hub, event: Event) -> dict[Connection, None]:
    return hub.channels.get(event.channel, {}) if event.channel is not None else {}


def outcomes(hub: Hub, event: Event, now_s: float) -> Iterator[Outcome]:
    """Yield the outcomes of an event: for the members of its channel, and for the users in `only`.

    Args:
        hub: the connections of this node.
        event: not delivered yet.
        now_s: the engine's clock, for `Outcome.wait_s`.
    """
    for member in _members(hub, event):
        yield outcome(member, event, now_s)
    yield from _non_members(hub, event, now_s)


def _non_members(hub: Hub, event: Event, now_s: float) -> Iterator[Outcome]:
    """Yield the outcomes of an event for users and connections that are not in its channel."""
    members = _members(hub, event)
    if event.only is None and not members:
        yield Outcome(Fate.NO_ADDRESSEE if event.channel is None else Fate.NO_MEMBERS)
    for name in sorted(event.only or ()):
        yield from _outside_channel(hub, event, name, now_s)


def _outside_channel(hub: Hub, event: Event, name: str, now_s: float) -> Iterator[Outcome]:
    """Yield the outcomes for an addressee's connections outside the event's channel."""
    connections = hub.users.get(name)
    if not connections:
        yield Outcome(Fate.NO_CONNECTION, user=name)
        return
    for connection in connections:
        if event.channel not in connection.channels:
            yield outcome(connection, event, now_s)


def is_by(event: Event, name: str) -> bool:
    """Whether a user has sent the event, or it is about this user."""
    return getattr(event, "user", None) == name or name in event.about


def outcomes_for_user(hub: Hub, event: Event, name: str, now_s: float) -> Iterator[Outcome]:
    """Yield the outcomes of an event for the connections of one user; none if the event does not concern the user."""
    connections = hub.users.get(name)
    if not connections and event.only is not None and name in event.only:
        yield Outcome(Fate.NO_CONNECTION, user=name)
    for connection in connections or ():
        yield from outcomes_for_connection(connection, event, now_s)


def outcomes_for_connection(connection: Connection, event: Event, now_s: float) -> Iterator[Outcome]:
    """Yield the outcome of an event for one connection; nothing if the event does not concern it."""
    if connection.is_sent(event.channel) or (event.only is not None and connection.user in event.only):
        yield outcome(connection, event, now_s)


def outcome(connection: Connection, event: Event, now_s: float) -> Outcome:
    """Return the outcome of an event for a connection."""
    fate = _refusal(connection, event) or _fate_of_recipient(connection)
    waits = fate in (Fate.DETACHED, Fate.NEW) and connection.deadline_s is not None
    wait_s = max(0, round((connection.deadline_s or 0.0) - now_s)) if waits else None
    return Outcome(fate, connection.id, connection.user, wait_s)


def _refusal(connection: Connection, event: Event) -> Fate | None:
    """Return the rule that keeps an event from a connection; None if it receives the event."""
    if event.only is not None and connection.user not in event.only:
        return Fate.NOT_ADDRESSED
    if event.exclude is not None and connection.user in event.exclude:
        return Fate.EXCLUDED
    if event.channel is not None and not connection.is_sent(event.channel):
        return Fate.NOT_A_MEMBER
    if event.exclude_connection == connection.id:
        return Fate.SENDER
    if connection.receives(event):
        return None
    # An event about several users is sent to each of them, with the part about the others.
    own = (connection.member_in(event.channel).user,)
    return Fate.OWN_PRESENCE if event.about == own else Fate.UNANNOUNCED


def _fate_of_recipient(connection: Connection) -> Fate:
    match connection.state:
        case ConnectionState.NEW:
            return Fate.NEW
        case ConnectionState.CATCHING_UP:
            return _fate_while_catching_up(connection)
        case ConnectionState.LIVE:
            return Fate.DELIVERED
        case ConnectionState.DETACHED | ConnectionState.RESTORED | ConnectionState.CLOSED:
            return Fate.DETACHED
        case _:
            assert_never(connection.state)


def _fate_while_catching_up(connection: Connection) -> Fate:
    batch = connection.batch
    if not isinstance(batch, BufferBatch) or batch.has_room:
        return Fate.CATCHING_UP
    return Fate.BEHIND if batch.limit else Fate.SLOW  # Nothing is buffered for a slow client.
