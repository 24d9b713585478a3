"""Traces of a running node: a consumer of its signals while one runs, and not otherwise.

Subjects and notes hold keys, as the events do; the documents have names.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from itertools import accumulate, islice
from typing import Any, assert_never

import msgspec
from msgspec import Struct

from channelstream.apps.app import App
from channelstream.apps.keys import name_of
from channelstream.core.connection import Connection
from channelstream.core.entry import Entry
from channelstream.core.events import Event
from channelstream.core.explain import (
    OutcomeSummary,
    is_by,
    outcomes_for_connection,
    outcomes_for_user,
    summarize,
    summarize_all,
)
from channelstream.core.trace import (
    MAX_MINUTES,
    MAX_OUTCOMES,
    MAX_TRACES,
    NOTHING,
    Asked,
    Fact,
    FactKind,
    Kind,
    Note,
    Subject,
    Trace,
    event_fact,
)
from channelstream.core.trace_filter import EVERYTHING, NoteFilter
from channelstream.errors import Invalid, TooManyRequests
from channelstream.service import Service
from channelstream.service.signals import Signal

NOTES_BYTES = 512 * 1024
"""Notes in one answer, encoded. A single note has at most 130 KB: 50 outcomes with the longest names."""
CHANNELS_SHOWN = 5
"""Channels of a connection that are named with a trace; the others are counted."""


class TraceView(Struct, frozen=True):
    """A trace at one node, with names in place of keys.

    Attributes:
        seconds_left: 0 if it does not run.
        noted: the number of notes so far, those dropped included.
        asked: who has asked for payloads; None if nobody has.
    """

    seconds_left: int
    noted: int
    notes: list[Note]
    connections: list[dict[str, Any]]
    asked: Asked | None = None


class TraceRow(Struct, frozen=True):
    """A trace in the list of all."""

    kind: str
    name: str
    seconds_left: int
    noted: int
    asked: Asked | None = None


class Tracer:
    """The traces of one application on a node, which consume the node's signals while any runs."""

    def __init__(self, service: Service) -> None:
        self._app = service.app
        self._node = service.node
        self._traces: dict[Subject, Trace] = {}
        self._consumes = False
        self._expiries: dict[Subject, asyncio.TimerHandle] = {}
        """When the payloads of traces are dropped."""

    # -- calls of the admin

    def start(self, kind: str, name: str, minutes: int, asked: Asked | None = None) -> None:
        """Start a trace for so many minutes; one that exists keeps its notes, and 0 minutes end it.

        Args:
            asked: who asks for payloads, which are kept until the trace ends, or is started again; None keeps none.

        Raises:
            Invalid: the kind cannot be traced, or the time is too long.
            TooManyRequests: `MAX_TRACES` traces are running.
        """
        if not 0 <= minutes <= MAX_MINUTES:
            raise Invalid({"minutes": [f"A trace may run for 0 to {MAX_MINUTES} minutes."]})
        subject = subject_of(self._app, kind, name)
        until_s = self._node.clock.steady() + minutes * 60
        trace = self._traces.get(subject)
        if trace is not None:
            trace.restart(until_s, asked)
        elif minutes:
            self._make_room()
            trace = self._traces[subject] = Trace(subject, until_s, asked)
        self._connect()
        if expiry := self._expiries.pop(subject, None):
            expiry.cancel()
        if trace is not None and asked is not None:
            loop = asyncio.get_running_loop()
            self._expiries[subject] = loop.call_later(minutes * 60, trace.drop_payloads)

    def view(
        self, kind: str, name: str, after: int, *, only: NoteFilter = EVERYTHING, newest: bool = False
    ) -> TraceView:
        """Return the oldest or the newest notes of a trace after a number, and the current connections of its subject.

        Args:
            only: which notes are wanted; it has names, not keys.

        Raises:
            Invalid: the kind cannot be traced.
        """
        subject = subject_of(self._app, kind, name)
        trace = self._traces.get(subject)
        connections = [_shown(connection) for connection in self._connections(subject)]
        if trace is None:
            return TraceView(0, 0, [], connections)
        if not self._runs(trace):
            trace.drop_payloads()
        read = trace.newest_after if newest else trace.after
        notes = map(_named, read(after, _in_keys(self._app, only).passes))
        return TraceView(
            self._seconds_left(trace), trace.noted, _bounded(list(notes), newest), connections, trace.asked
        )

    def listing(self) -> list[TraceRow]:
        """Return all traces, without their notes."""
        return [
            TraceRow(
                trace.subject.kind.value,
                name_of(trace.subject.name),
                self._seconds_left(trace),
                trace.noted,
                trace.asked if self._runs(trace) else None,
            )
            for trace in self._traces.values()
        ]

    def _seconds_left(self, trace: Trace) -> int:
        return max(0, round(trace.until_s - self._node.clock.steady()))

    def _connections(self, subject: Subject) -> list[Connection]:
        """Return the subject's connections, at most `MAX_OUTCOMES`."""
        hub = self._node.hub
        match subject.kind:
            case Kind.CONN_ID:
                connection = hub.connections.get(subject.name)
                return [connection] if connection else []
            case Kind.USER:
                return list(islice(hub.users.get(subject.name, ()), MAX_OUTCOMES))
            case Kind.CHANNEL:
                return list(islice(hub.channels.get(subject.name, ()), MAX_OUTCOMES))
            case _:
                assert_never(subject.kind)

    def _make_room(self) -> None:
        if len(self._traces) < MAX_TRACES:
            return
        ended = next((subject for subject, trace in self._traces.items() if not self._runs(trace)), None)
        if ended is None:
            raise TooManyRequests(f"{MAX_TRACES} traces are running; stop one of them first.")
        del self._traces[ended]
        if expiry := self._expiries.pop(ended, None):
            expiry.cancel()

    # -- consuming the signals

    def _connect(self) -> None:
        """Consume the signals if a trace runs, and no longer if none does."""
        runs = any(map(self._runs, self._traces.values()))
        if runs == self._consumes:
            return
        self._consumes = runs
        signals = self._node.signals
        pairs: tuple[tuple[Signal[...], Callable[..., None]], ...] = (
            (signals.accepted, self._accepted),
            (signals.duplicate, self._duplicate),
            (signals.replayed, self._replayed),
            (signals.attached, self._attached),
            (signals.detached, self._detached),
            (signals.stalled, self._stalled),
            (signals.ended, self._ended),
        )
        for signal, consumer in pairs:
            (signal.connect if runs else signal.disconnect)(consumer)

    def _runs(self, trace: Trace) -> bool:
        return self._node.clock.steady() < trace.until_s

    def _running(self) -> list[Trace]:
        """Return the traces that run; if none does any more, stop consuming the signals."""
        running = [trace for trace in self._traces.values() if self._runs(trace)]
        if not running:
            self._connect()
        return running

    def _accepted(self, entry: Entry) -> None:
        """Note the outcomes of an entry that is delivered next."""
        summary_for = self._summaries(entry.event)
        for trace in self._running():
            found = summary_for(trace.subject)
            if found.counts:
                fact = event_fact(FactKind.ACCEPTED, entry.event, entry.position, found)
                self._note(trace, fact, entry.event)

    def _summaries(self, event: Event) -> Callable[[Subject], OutcomeSummary]:
        """Return a function for the outcomes of an event that concern a subject."""
        hub, now_s = self._node.hub, self._node.clock.steady()
        # Cached: several traces may need that of a large channel.
        of_all = cache(partial(summarize_all, hub, event, now_s, MAX_OUTCOMES))

        def of(subject: Subject) -> OutcomeSummary:
            match subject.kind:
                case Kind.CHANNEL:
                    return of_all() if event.channel == subject.name else NOTHING
                case Kind.USER:
                    if is_by(event, subject.name):
                        return of_all()
                    return summarize(outcomes_for_user(hub, event, subject.name, now_s), MAX_OUTCOMES)
                case Kind.CONN_ID:
                    connection = hub.connections.get(subject.name)
                    if connection is None:
                        return NOTHING
                    return summarize(outcomes_for_connection(connection, event, now_s), MAX_OUTCOMES)
                case _:
                    assert_never(subject.kind)

        return of

    def _note(self, trace: Trace, fact: Fact, event: Event | None = None) -> None:
        trace.note(self._node.clock.wall(), fact, getattr(event, "payload", None))

    def _duplicate(self, event: Event) -> None:
        summary_for = self._summaries(event)
        for trace in self._running():
            if summary_for(trace.subject).counts:
                text = "its uuid was accepted before, so it is not delivered again"
                fact = msgspec.structs.replace(event_fact(FactKind.REPEATED, event), text=text)
                self._note(trace, fact, event)

    def _replayed(self, connection: Connection, entries: Sequence[Entry], lost: Iterable[str]) -> None:
        for trace in self._about(connection):
            for entry in entries:
                if connection.receives(entry.event) and _is_shown(trace.subject, entry.event.channel):
                    fact = event_fact(FactKind.REPLAYED, entry.event, entry.position)
                    self._note(trace, _of(connection, fact), entry.event)
            for channel in sorted(lost):
                if _is_shown(trace.subject, channel):
                    text = "the log no longer holds what it missed"
                    self._note(trace, _of(connection, Fact(what=FactKind.LOST, channel=channel, text=text)))

    def _attached(self, connection: Connection) -> None:
        self._note_all(connection, Fact(what=FactKind.ATTACHED, text="it has a stream"))

    def _detached(self, connection: Connection, grace_s: float) -> None:
        text = f"it has no stream; it ends in {grace_s:g} seconds unless one attaches"
        self._note_all(connection, Fact(what=FactKind.DETACHED, text=text))

    def _stalled(self, connection: Connection) -> None:
        self._note_all(
            connection, Fact(what=FactKind.SLOW, text="the client reads too slowly; the log keeps the rest")
        )

    def _ended(self, connection: Connection, code: int | None, reason: str) -> None:
        text = reason if code is None else f"{code}: {reason}"
        self._note_all(connection, Fact(what=FactKind.CLOSED, text=text))

    def _note_all(self, connection: Connection, fact: Fact) -> None:
        for trace in self._about(connection):
            self._note(trace, _of(connection, fact))

    def _about(self, connection: Connection) -> list[Trace]:
        """Return the running traces of a connection, its user or one of its channels."""
        return [trace for trace in self._running() if _covers(trace.subject, connection)]


def subject_of(app: App, kind: str, name: str) -> Subject:
    """Return what a trace follows.

    Raises:
        Invalid: the kind cannot be traced.
    """
    try:
        return Subject(Kind(kind), app.key(name))
    except ValueError as error:
        raise Invalid({"kind": ["Name a user, a channel or a conn_id."]}) from error


def _covers(subject: Subject, connection: Connection) -> bool:
    match subject.kind:
        case Kind.CHANNEL:
            return connection.is_sent(subject.name)
        case Kind.USER:
            return subject.name == connection.user
        case Kind.CONN_ID:
            return subject.name == connection.id
        case _:
            assert_never(subject.kind)


def _is_shown(subject: Subject, channel: str | None) -> bool:
    """Whether a trace notes events of this channel, for a connection that it covers."""
    return subject.kind is not Kind.CHANNEL or subject.name == channel


def _of(connection: Connection, fact: Fact) -> Fact:
    return msgspec.structs.replace(fact, conn_id=connection.id, user=connection.user)


def _shown(connection: Connection) -> dict[str, Any]:
    return {
        "conn_id": name_of(connection.id),
        "user": name_of(connection.user),
        "state": connection.state.value,
        "channels": list(map(name_of, sorted(connection.readable)[:CHANNELS_SHOWN])),
        "more_channels": max(0, len(connection.readable) - CHANNELS_SHOWN),
    }


def _in_keys(app: App, only: NoteFilter) -> NoteFilter:
    """Return a filter with keys in place of names, as notes have them."""
    user, channel, conn_id = (
        None if name is None else app.key(name) for name in (only.user, only.channel, only.conn_id)
    )
    return msgspec.structs.replace(only, user=user, channel=channel, conn_id=conn_id)


def _bounded(notes: list[Note], newest: bool) -> list[Note]:
    """Return as many notes as `NOTES_BYTES` hold: the newest of them, or the oldest."""
    ordered = notes[::-1] if newest else notes
    ends = accumulate(len(msgspec.json.encode(note)) for note in ordered)
    kept = [note for note, end in zip(ordered, ends, strict=True) if end <= NOTES_BYTES]
    return kept[::-1] if newest else kept


def _named(note: Note) -> Note:
    """Return a note with names in place of keys."""
    fact = note.fact
    named = msgspec.structs.replace(
        fact,
        channel=_name_of(fact.channel),
        by=_name_of(fact.by),
        conn_id=_name_of(fact.conn_id),
        user=_name_of(fact.user),
        outcomes=tuple(
            msgspec.structs.replace(each, conn_id=_name_of(each.conn_id), user=_name_of(each.user))
            for each in fact.outcomes
        ),
    )
    return msgspec.structs.replace(note, fact=named)


def _name_of(key: str | None) -> str | None:
    return None if key is None else name_of(key)
