"""The delivery to one receiver: reads its facts from the outbox and puts them into lanes."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from math import inf
from zlib import crc32

from channelstream.apps.webhooks import Receiver
from channelstream.core.facts import Fact, Repeated, decode
from channelstream.errors import Unavailable
from channelstream.integrations.webhooks.calling import LaneParts
from channelstream.integrations.webhooks.formats import accepts
from channelstream.integrations.webhooks.lane import Lane
from channelstream.integrations.webhooks.progress import Progress, Reached
from channelstream.integrations.webhooks.refused import MOST_BEHIND, RefusalSummary, all_refusals
from channelstream.integrations.webhooks.settling import MOST_HELD, Settling
from channelstream.service import Cursor, Kept, Outbox

READ_AT_ONCE = 500
"""Most facts of a shard that are read at once."""
POLL_S = 0.25
"""How long it waits when there was nothing to read, in seconds."""
LANES = 8
"""Lanes of a receiver whose calls have one fact each; facts of one channel are always in the same."""
MOST_OPEN = MOST_HELD + 4_000 + LANES * MOST_BEHIND
"""Facts on their way from which on none is read."""


def lanes_of(batching: bool) -> int:
    """Return how many calls to a receiver there are at the same time, at most."""
    return 1 if batching else LANES


def is_sent(receiver: Receiver, fact: Fact) -> bool:
    """Whether a fact of its application goes to a receiver."""
    if isinstance(fact, Repeated):
        return fact.receiver == receiver.name
    return accepts(receiver, fact)


class Delivery:
    """The facts of one receiver, from its cursor on.

    Attributes:
        progress: how far it is; no more than about `MOST_OPEN` facts are on their way.
    """

    def __init__(self, outbox: Outbox, begin: Cursor, reached: Reached, parts: LaneParts) -> None:
        """Create it.

        Args:
            begin: the cursor of the receiver.
            reached: what an earlier sender had sent beyond it.
        """
        self._outbox = outbox
        self._parts = parts
        self.progress = Progress(begin, reached)
        self._settling = Settling()
        self._lanes = [Lane(parts, self.progress.end) for _ in range(lanes_of(parts.receiver.batching))]
        self._horizons_ms = [0] * len(begin)
        self._all_read_s = -inf

    @property
    def app_id(self) -> str:
        """The id of the application that the receiver belongs to."""
        return self._parts.receiver.app_id

    @property
    def refusals(self) -> RefusalSummary:
        """The facts that are refused alone, and tried again by themselves."""
        return all_refusals([lane.refusals for lane in self._lanes])

    def give_up_refused(self) -> int:
        """Have the refused facts given up, soon and without another attempt; return how many."""
        return sum(lane.give_up_refused() for lane in self._lanes)

    async def run(self) -> None:
        """Read and send, until it is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for lane in self._lanes:
                tasks.create_task(lane.run())
            while True:
                began_s = self._parts.steady()
                found = await self._read()
                if found is not None and not found:
                    self._all_read_s = began_s
                for kept in found or ():
                    await self._take(kept)
                for kept in self._settling.due(self._horizons_ms, self._all_read_s):
                    await self._put(kept)
                # Otherwise no other task would run while facts are read that are not for this receiver, or wait.
                await (asyncio.sleep(0) if found else self._parts.sleep(POLL_S))

    async def _read(self) -> list[Kept] | None:
        """Return the next facts; None if that is not possible now."""
        if self.progress.open >= MOST_OPEN:
            return None
        with suppress(Unavailable):
            return await self._outbox.read(self.app_id, self.progress.read, READ_AT_ONCE)
        return None

    async def _take(self, kept: Kept) -> None:
        was_done, fact = self.progress.begin(kept), kept.fact
        if fact is not None:
            self._horizons_ms[kept.shard] = max(self._horizons_ms[kept.shard], fact.at_ms)
        if was_done:
            return
        if fact is None or not is_sent(self._parts.receiver, fact):
            self.progress.end(kept)
            return
        if isinstance(fact, Repeated):
            await self._take_again(kept, fact)
            return
        settled = self._settling.add(kept, fact, self._parts.steady())
        for each in settled.dropped:
            self.progress.end(each)
        for each in settled.sent:
            await self._put(each)

    async def _take_again(self, kept: Kept, repeated: Repeated) -> None:
        fact = decode(repeated.data)
        if fact is None:
            self.progress.end(kept)
        else:
            await self._put(kept._replace(fact=fact))

    async def _put(self, kept: Kept) -> None:
        assert kept.fact is not None  # noqa: S101 - others were left out
        lane = self._lanes[crc32(kept.fact.place.encode()) % len(self._lanes)]
        await lane.put(kept, kept.fact)


MakeDelivery = Callable[[Cursor, Reached], Delivery]
"""Makes the delivery to a receiver, from its cursor on, without what an earlier sender had sent beyond it."""
