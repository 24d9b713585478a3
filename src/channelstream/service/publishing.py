"""Publishes events in their order: a long list in several event loop turns, an event for very many users in steps."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Iterable, Iterator, Sequence
from itertools import groupby

from channelstream.core.accepted import Accepted, combined
from channelstream.core.events import Event
from channelstream.core.hub import Hub
from channelstream.engines.base import EventLog
from channelstream.engines.user_groups import is_for_many
from channelstream.slices import turn_for

PART_COST = 20_000
"""Cost of the events that are published in one loop turn, in pointers moved (0.1 us each, measured)."""
EVENT_COST = 150
"""Cost of an event besides its recipients, in the same unit."""
CHANGE_COST = 400
"""Cost of an edit or a deletion besides its recipients, in the same unit: it replaces entries of logs and histories."""
PRIVATE_COST = 50
"""Cost of a recipient with a log of its own, that of its private messages."""
STEPS_AT_ONCE = 4
"""Steps of one event that may wait for the engine: a commit of the disk, or a call of Redis, serves several."""


class Publishing:
    """Passes events to the log."""

    def __init__(self, log: EventLog, hub: Hub) -> None:
        self._log = log
        self._hub = hub

    def publish(self, events: Sequence[Event]) -> Awaitable[list[Accepted]]:
        """Publish events in this order; when the result is there, the engine has accepted them.

        If it raises, the engine may have accepted some of them.
        """
        if len(events) == 1 and events[0].only is None:
            return self._log.publish(events)
        return self._publish_any(events)

    async def _publish_any(self, events: Sequence[Event]) -> list[Accepted]:
        if not events:
            return []
        first, last = events[0].only, events[-1].only
        if first is not None:
            await turn_for(len(first))
        accepted = await self._publish(events)
        if last is not None:
            await turn_for(len(last))
        return accepted

    async def _publish(self, events: Sequence[Event]) -> list[Accepted]:
        if any(map(is_for_many, events)):
            return await self._some_in_steps(events)
        return await (self._log.publish(events) if len(events) == 1 else self._in_parts(events))

    async def _some_in_steps(self, events: Sequence[Event]) -> list[Accepted]:
        accepted = list[Accepted]()
        for many, run in groupby(events, is_for_many):
            if many:
                accepted += [await self._in_steps(event) for event in run]
            else:
                accepted += await self._in_parts(run)
        return accepted

    async def _in_steps(self, event: Event) -> Accepted:
        """Publish a private event for very many users, for some of them in each loop turn."""
        accepted, running = list[Accepted](), deque[asyncio.Task[list[Accepted]]]()
        failures = list[BaseException]()
        try:
            async for part in self._log.divide(event):
                running.append(asyncio.create_task(self._log.publish([part])))
                await asyncio.sleep(0)  # It is accepted in this turn, and perhaps written in a later one.
                if len(running) == STEPS_AT_ONCE:
                    accepted += await running.popleft()
            while running:
                accepted += await running.popleft()
        except BaseException as error:
            failures.append(error)
        await asyncio.gather(*running, return_exceptions=True)  # After the handler, as setup.py says.
        if failures:
            raise failures.pop()
        return combined(event, accepted)

    async def _in_parts(self, events: Iterable[Event]) -> list[Accepted]:
        accepted: list[Accepted] = []
        for part in self._parts(events):
            if accepted:
                await asyncio.sleep(0)
            accepted += await self._log.publish(part)
        return accepted

    def _parts(self, events: Iterable[Event]) -> Iterator[list[Event]]:
        """Cut a list into parts that cost about `PART_COST`."""
        part, cost = list[Event](), 0
        for event in events:
            part.append(event)
            cost += CHANGE_COST if event.supersedes is not None else EVENT_COST
            cost += self._delivery_cost(event)
            if cost >= PART_COST:
                yield part
                part, cost = [], 0
        if part:
            yield part

    def _delivery_cost(self, event: Event) -> int:
        """Return an upper bound of the cost of an event's recipients on this node."""
        if event.channel is None:
            return PRIVATE_COST * len(event.only or ())
        return len(self._hub.channels.get(event.channel, ()))
