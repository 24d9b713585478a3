"""Adds to the span of a call when, and to how many connections, its messages were delivered.

There is one span event for each message, edit or deletion, whatever the number of its recipients, and for the first
`MAX_EVENTS` of a call only. An engine may deliver an event shortly after it has answered the publisher. So the span of a
call is handed to the exporter when everything is delivered. It waits for `WAIT_S` after the call at most, since a Redis
engine announces an event only to nodes that have a recipient. The end of the span is that of the call in any case.

Of an event that is accepted in several steps or forms, the delivery of the first one is recorded.

Each event belongs to the first call that publishes its uuid and is still waiting: of a message and its edit that are
published at the same time, one delivery is recorded.
"""

import asyncio
import time
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any, TypeVar, cast

from channelstream.core.accepted import Accepted
from channelstream.core.entry import Entry
from channelstream.core.events import Event

MAX_EVENTS = 20
"""Span events of a call. Each takes about 2 KB until it is exported, and the queue of the exporter has 2,048 spans."""
MAX_WAITING = 10_000
"""Published events whose delivery is awaited; of any more the delivery is not recorded."""
WAIT_S = 1.0
"""How long the delivery of an event is awaited after its call, in seconds."""

DELIVERED = "channelstream.delivered"
EVENT, MESSAGE_ID = "channelstream.event", "messaging.message.id"
MESSAGES, RECIPIENTS = "channelstream.messages", "channelstream.recipients"

T = TypeVar("T")


class CallSpan:
    """The span of a call, until it is handed to the exporter.

    Attributes:
        span: the span of OpenTelemetry, which is sampled.
        published: events that the call has passed to the engine.
        awaited: how many of them are or were awaited.
        uuids: those that are not delivered yet.
        last: the kind and the uuid of the event that it has published last.
        ended_ns: the time of the end of the call; None while it runs.
    """

    __slots__ = ("awaited", "ended_ns", "last", "published", "span", "uuids")

    def __init__(self, span: Any) -> None:
        self.span = span
        self.published = self.awaited = 0
        self.uuids: set[str] = set()
        self.last: tuple[type[Event], str] | None = None
        self.ended_ns: int | None = None


current: ContextVar[CallSpan | None] = ContextVar("channelstream_call_span", default=None)
"""The span of the call that runs; None if it is not sampled."""


class Deliveries:
    """The published events whose delivery is awaited, of all calls."""

    def __init__(self) -> None:
        self._awaited: dict[str, CallSpan] = {}
        # Spans whose calls have ended.
        self._held: set[CallSpan] = set()

    def watched(self, engine: T) -> T:
        """Return an engine that reports what it publishes."""
        return cast(T, _Watched(engine, self))

    def publishing(self, call: CallSpan, events: Sequence[Event]) -> None:
        """Await the deliveries of events that are published next."""
        for event in events:
            what = type(event), event.uuid
            if what == call.last:
                continue  # A further step of an event for very many users (`engines/user_groups.py`).
            call.last = what
            call.published += 1
            if call.awaited >= MAX_EVENTS or len(self._awaited) >= MAX_WAITING:
                continue
            if self._awaited.setdefault(event.uuid, call) is call:
                call.awaited += 1
                call.uuids.add(event.uuid)

    def published(self, call: CallSpan, outcomes: Sequence[Accepted]) -> None:
        """Await duplicates no longer: they are not delivered again."""
        if call.uuids:
            self._forget(call, [outcome.event.uuid for outcome in outcomes if outcome.duplicate])

    def delivered(self, entry: Entry, recipients: int) -> None:
        """Record a delivery to connections of this node."""
        event = entry.event
        call = self._awaited.pop(event.uuid, None)
        if call is None:
            return
        kind = str(event.__struct_config__.tag)
        call.span.add_event(DELIVERED, {MESSAGE_ID: event.uuid, EVENT: kind, RECIPIENTS: recipients})
        call.uuids.discard(event.uuid)
        if not call.uuids:
            self._release(call)

    def ended(self, call: CallSpan, has_failed: bool) -> None:
        """End the span of a call, once its events are delivered; at once if it has failed."""
        call.ended_ns = time.time_ns()
        if call.published:
            call.span.set_attribute(MESSAGES, call.published)
        self._held.add(call)
        if has_failed or not call.uuids:
            self._release(call)
        else:
            asyncio.get_running_loop().call_later(WAIT_S, self._release, call)

    def close(self) -> None:
        """Wait for no delivery any longer."""
        for call in list(self._held):
            self._release(call)

    def _release(self, call: CallSpan) -> None:
        """Hand the span of a call that has ended to the exporter, if that is not done yet."""
        self._forget(call, list(call.uuids))
        if call in self._held:
            self._held.remove(call)
            call.span.end(call.ended_ns)

    def _forget(self, call: CallSpan, uuids: Sequence[str]) -> None:
        for uuid in uuids:
            if uuid in call.uuids:
                call.uuids.discard(uuid)
                del self._awaited[uuid]


class _Watched:
    """Passes everything on, and reports what is published within a call."""

    def __init__(self, engine: Any, deliveries: Deliveries) -> None:
        self._engine = engine
        self._deliveries = deliveries

    async def publish(self, events: Sequence[Event]) -> list[Accepted]:
        call = current.get()
        if call is None:
            return cast(list[Accepted], await self._engine.publish(events))
        self._deliveries.publishing(call, events)
        accepted: list[Accepted] = await self._engine.publish(events)
        self._deliveries.published(call, accepted)
        return accepted

    def publish_at_once(self, event: Event) -> None:
        """Return None: what is published within a call has to be reported."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)
