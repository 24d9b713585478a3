"""A lane: some channels and users of a receiver, whose facts are sent one call after the other."""

import asyncio
from collections import deque
from collections.abc import Callable

from channelstream.core.facts import ClientEvent, Fact
from channelstream.integrations.webhooks.calling import Attempts, LaneParts
from channelstream.service import Kept

QUEUE = 200
"""Facts that may wait in a lane; the reader waits beyond."""
BATCH = 100
"""Most facts of a call."""
BATCH_BYTES = 131_072
"""From this size on, in estimated bytes, a call takes no further fact."""
FACT_BYTES = 300
"""The size that is assumed for a fact, without the data of a client event."""
COLLECT_S = 0.05
"""How long a call collects facts, in seconds."""


class Lane:
    """Facts that wait to be sent, in order."""

    def __init__(self, parts: LaneParts, done: Callable[[Kept], None]) -> None:
        """Create an empty one.

        Args:
            done: called with each fact that was sent or given up.
        """
        self._parts = parts
        self._done = done
        self._waiting: deque[tuple[Kept, Fact]] = deque()
        self._changed = asyncio.Event()

    async def put(self, kept: Kept, fact: Fact) -> None:
        """Add a fact, as soon as there is room."""
        while len(self._waiting) >= QUEUE:
            self._changed.clear()
            await self._changed.wait()
        self._waiting.append((kept, fact))
        self._changed.set()

    async def run(self) -> None:
        """Send, until it is cancelled: what was not answered then is sent again by the next sender."""
        while True:
            while not self._waiting:
                self._changed.clear()
                await self._changed.wait()
            if self._parts.receiver.batching and len(self._waiting) < BATCH:
                await self._parts.sleep(COLLECT_S)
            taken = self._take()
            attempts = Attempts(self._parts, [fact for _, fact in taken])
            while await attempts.make() is not None:
                await self._parts.sleep(attempts.wait_s)
            for kept, _ in taken:
                self._done(kept)

    def _take(self) -> list[tuple[Kept, Fact]]:
        most = BATCH if self._parts.receiver.batching else 1
        taken: list[tuple[Kept, Fact]] = []
        size = 0
        while self._waiting and len(taken) < most and size < BATCH_BYTES:
            taken.append(self._waiting.popleft())
            fact = taken[-1][1]
            size += FACT_BYTES + (len(fact.data) if isinstance(fact, ClientEvent) else 0)
        self._changed.set()
        return taken
