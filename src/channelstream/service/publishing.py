"""Publishes events in their order, a long list in several event loop turns."""

import asyncio
from collections.abc import Iterator, Sequence

from channelstream.core.events import Event
from channelstream.core.hub import Hub
from channelstream.core.log import Accepted
from channelstream.engines.base import EventLog
from channelstream.slices import turn_for

PART_COST = 20_000
"""Cost of the events that are published in one loop turn, in pointers moved (0.1 us each, measured)."""
EVENT_COST = 150
"""Cost of an event besides its recipients, in the same unit."""
CHANGE_COST = 400
"""The same of an edit or a deletion, which replaces entries of logs and histories."""
PRIVATE_COST = 50
"""Cost of a recipient with a log of its own, that of its private messages."""


class Publishing:
    """Passes events to the log."""

    def __init__(self, log: EventLog, hub: Hub) -> None:
        self._log = log
        self._hub = hub

    async def publish(self, events: Sequence[Event]) -> list[Accepted]:
        """Publish events in this order; when this returns, the engine has accepted them.

        If it raises, the engine may have accepted some of them.
        """
        if not events:
            return []
        first, last = events[0].only, events[-1].only
        if first is not None:
            await turn_for(len(first))
        accepted = await (self._log.publish(events) if len(events) == 1 else self._in_parts(events))
        if last is not None:
            await turn_for(len(last))
        return accepted

    async def _in_parts(self, events: Sequence[Event]) -> list[Accepted]:
        accepted: list[Accepted] = []
        for part in self._parts(events):
            if accepted:
                await asyncio.sleep(0)
            accepted += await self._log.publish(part)
        return accepted

    def _parts(self, events: Sequence[Event]) -> Iterator[Sequence[Event]]:
        """Cut a list into parts that cost about `PART_COST`."""
        begin = cost = 0
        for number, event in enumerate(events, 1):
            cost += CHANGE_COST if event.supersedes is not None else EVENT_COST
            cost += self._delivery_cost(event)
            if cost >= PART_COST or number == len(events):
                yield events[begin:number]
                begin, cost = number, 0

    def _delivery_cost(self, event: Event) -> int:
        """Return an upper bound of the cost of an event's recipients on this node."""
        if event.channel is None:
            return PRIVATE_COST * len(event.only or ())
        return len(self._hub.channels.get(event.channel, ()))
