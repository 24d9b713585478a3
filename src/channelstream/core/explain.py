"""Why an event reaches a connection or not, in words: the rules of `hub.deliver`, told instead of obeyed.

Asked just before the hub delivers, and only while somebody traces; delivery itself knows nothing of it.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from itertools import islice
from operator import attrgetter

from msgspec import Struct

from channelstream.core.batch import BufferBatch
from channelstream.core.connection import Connection, ConnectionState
from channelstream.core.events import Event
from channelstream.core.hub import Hub


class Fate(Enum):
    """What becomes of one event for one connection, user or channel."""

    DELIVERED = "delivered"
    CATCHING_UP = "held: it is catching up"
    BEHIND = "waits in the log: it is catching up, and more has come than is held"
    SLOW = "waits in the log: the client reads too slowly"
    DETACHED = "waits in the log: it has no stream now"
    NEW = "waits in the log: it never had a stream"
    EXCLUDED = "excluded by exclude_users"
    NOT_ADDRESSED = "not in pm_users"
    NOT_A_MEMBER = "not a member of the channel"
    OWN_PRESENCE = "nobody hears of their own presence"
    UNANNOUNCED = "the channel has no notify_presence, and this dialect hears of presence only with it"
    NO_CONNECTION = "the user has no connection here"
    NO_MEMBERS = "the channel has no members here"
    NO_ADDRESSEE = "it is meant for nobody"


class Outcome(Struct, frozen=True, gc=False):
    """One fate and whom it befell.

    Attributes:
        conn_id: None where there is no connection.
        user: None where nobody is there.
        wait_s: whole seconds until the connection is given up, unless a stream comes.
    """

    fate: Fate
    conn_id: str | None = None
    user: str | None = None
    wait_s: int | None = None


class OutcomeSummary(Struct, frozen=True):
    """What became of an event for very many, told shortly.

    Attributes:
        first: the first outcomes, written out.
        counts: how many there are of each fate, these included.
    """

    samples: tuple[Outcome, ...] = ()
    counts: dict[str, int] = {}


def summarize(found: Iterable[Outcome], named: int) -> OutcomeSummary:
    """Tell outcomes shortly; so many are written out."""
    listed = tuple(found)
    return OutcomeSummary(listed[:named], dict(Counter(each.fate.value for each in listed)))


def summarize_all(hub: Hub, event: Event, now_s: float, named: int) -> OutcomeSummary:
    """Tell shortly what `outcomes` yields.

    Members alike in all that decides are counted together: 10,000 take a few milliseconds, and stand in the way of delivery.
    """
    members = _members(hub, event)
    if len(members) <= named:
        return summarize(outcomes(hub, event, now_s), named)
    names = (event.only or frozenset()) | (event.exclude or frozenset()) | frozenset(event.about)
    special = {each: None for name in names for each in hub.users.get(name, ()) if each in members}
    ordinary = [each for each in members if each not in special] if special else members
    counts = Counter(outcome(each, event, now_s).fate for each in special)
    counts.update(each.fate for each in _non_members(hub, event, now_s))
    counts += _fates(ordinary, event, now_s)
    first = tuple(outcome(each, event, now_s) for each in islice(members, named))
    return OutcomeSummary(first, {fate.value: count for fate, count in counts.items()})


def _fates(connections: Iterable[Connection], event: Event, now_s: float) -> "Counter[Fate]":
    """Count the fates of members whom an event does not name."""
    kinds = list(map(_fate_key, connections))
    samples = dict(zip(kinds, connections, strict=True))
    counts: Counter[Fate] = Counter()
    for kind, count in Counter(kinds).items():
        if samples[kind].state is ConnectionState.CATCHING_UP:
            some = (each for each in connections if _fate_key(each) == kind)
            counts.update(outcome(each, event, now_s).fate for each in some)
        else:
            counts[outcome(samples[kind], event, now_s).fate] += count
    return counts


_fate_key = attrgetter("state._value_", "dialect._value_")
"""What decides the fate of a member that is neither named nor catching up; of enums the values, which are hashed faster."""


def _members(hub: Hub, event: Event) -> dict[Connection, None]:
    return hub.channels.get(event.channel, {}) if event.channel is not None else {}


def outcomes(hub: Hub, event: Event, now_s: float) -> Iterator[Outcome]:
    """Yield what becomes of an event: for members of its channel, and for those it is meant for.

    Args:
        now_s: the engine's clock, to tell how long the detached are waited for.
    """
    for member in _members(hub, event):
        yield outcome(member, event, now_s)
    yield from _non_members(hub, event, now_s)


def _non_members(hub: Hub, event: Event, now_s: float) -> Iterator[Outcome]:
    """Yield what becomes of an event for those who are not in its channel."""
    members = _members(hub, event)
    if event.only is None and not members:
        yield Outcome(Fate.NO_ADDRESSEE if event.channel is None else Fate.NO_MEMBERS)
    for name in sorted(event.only or ()):
        yield from _outside_channel(hub, event, name, now_s)


def _outside_channel(hub: Hub, event: Event, name: str, now_s: float) -> Iterator[Outcome]:
    """Yield what becomes of it for an addressee's connections outside the event's channel."""
    connections = hub.users.get(name)
    if not connections:
        yield Outcome(Fate.NO_CONNECTION, user=name)
        return
    for connection in connections:
        if event.channel not in connection.channels:
            yield outcome(connection, event, now_s)


def is_by(event: Event, name: str) -> bool:
    """Whether a user has sent an event, or it is about this user."""
    return getattr(event, "user", None) == name or name in event.about


def outcomes_for_user(hub: Hub, event: Event, name: str, now_s: float) -> Iterator[Outcome]:
    """Yield what becomes of an event for the connections of one user.

    Nothing where the event does not concern the user: another channel's, and meant for others.
    """
    connections = hub.users.get(name)
    if not connections and event.only is not None and name in event.only:
        yield Outcome(Fate.NO_CONNECTION, user=name)
    for connection in connections or ():
        yield from outcomes_for_connection(connection, event, now_s)


def outcomes_for_connection(connection: Connection, event: Event, now_s: float) -> Iterator[Outcome]:
    """Yield what becomes of an event for one connection, nothing where the event does not concern it."""
    if event.channel in connection.channels or (event.only is not None and connection.user in event.only):
        yield outcome(connection, event, now_s)


def outcome(connection: Connection, event: Event, now_s: float) -> Outcome:
    """Return what becomes of an event for a connection."""
    fate = _refusal(connection, event) or _STATES[connection.state](connection)
    waits = fate in (Fate.DETACHED, Fate.NEW) and connection.deadline_s is not None
    wait_s = max(0, round((connection.deadline_s or 0.0) - now_s)) if waits else None
    return Outcome(fate, connection.id, connection.user, wait_s)


def _refusal(connection: Connection, event: Event) -> Fate | None:
    """Return the rule that keeps an event from a connection, None where it hears it."""
    if event.only is not None and connection.user not in event.only:
        return Fate.NOT_ADDRESSED
    if event.exclude is not None and connection.user in event.exclude:
        return Fate.EXCLUDED
    if event.channel is not None and event.channel not in connection.channels:
        return Fate.NOT_A_MEMBER
    if connection.receives(event):
        return None
    # An event about several users is heard by each of them, as it is about the others.
    return Fate.OWN_PRESENCE if event.about == (connection.user,) else Fate.UNANNOUNCED


def _catching_up(connection: Connection) -> Fate:
    """Tell a slow client, for whom nothing is held, from one that reads what it missed, for whom so much is."""
    batch = connection.batch
    if not isinstance(batch, BufferBatch) or batch.has_room:
        return Fate.CATCHING_UP
    return Fate.BEHIND if batch.limit else Fate.SLOW


_STATES: dict[ConnectionState, Callable[[Connection], Fate]] = {
    ConnectionState.NEW: lambda _: Fate.NEW,
    ConnectionState.CATCHING_UP: _catching_up,
    ConnectionState.LIVE: lambda _: Fate.DELIVERED,
    ConnectionState.DETACHED: lambda _: Fate.DETACHED,
    ConnectionState.CLOSED: lambda _: Fate.DETACHED,
}
