"""A lane: some channels and users of a receiver, whose facts are sent one call after the other.

An answer such as 400 may be about one fact of a call. So a call that is refused is made in halves, until a fact is refused
alone. It is tried again by itself (`refused.py`), and facts of other channels and users are sent meanwhile.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from channelstream.core.facts import ClientEvent, Fact
from channelstream.integrations.webhooks.calling import Attempts, LaneParts, NotAccepted
from channelstream.integrations.webhooks.refused import (
    MOST_BEHIND,
    MOST_IN_A_ROW,
    Item,
    RefusalSummary,
    Refused,
    RefusedFact,
)
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
BY_ADMIN = "refused, and given up by an admin"
"""Why a fact was given up that an admin has had given up."""
LOOK_S = 0.25
"""How often a lane that sends nothing looks for a refused fact that is due, in seconds."""
FEW = MOST_IN_A_ROW // 2
"""Refused facts down to which their number has to fall before the log says again that the others wait."""

logger = logging.getLogger(__name__)


class Lane:
    """Facts that wait to be sent, in order."""

    def __init__(self, parts: LaneParts, done: Callable[[Kept], None]) -> None:
        """Create an empty one.

        Args:
            done: called with each fact that was sent or given up.
        """
        self._parts = parts
        self._done = done
        self._waiting: deque[Item] = deque()
        self._refused = Refused()
        self._most = BATCH
        self._changed = asyncio.Event()
        self._is_reported = False

    @property
    def refusals(self) -> RefusalSummary:
        """The facts that are refused alone, and tried again by themselves."""
        begin_s = self._parts.wall() - self._parts.steady()
        return RefusalSummary(len(self._refused), self._holds_up_others(), self._refused.shown(begin_s))

    def _holds_up_others(self) -> bool:
        """Whether facts of other channels and users wait as well: here, or for room (`put`)."""
        return (bool(self._waiting) and self._is_full()) or self._has_many_behind()

    def _has_many_behind(self) -> bool:
        return self._refused.behind >= MOST_BEHIND

    def _is_full(self) -> bool:
        return self._refused.is_full(self._parts.steady(), self._parts.figures.sent)

    def give_up_refused(self) -> int:
        """Have the refused facts given up, soon and without another attempt; return how many."""
        return self._refused.give_up()

    async def put(self, kept: Kept, fact: Fact) -> None:
        """Add a fact, as soon as there is room."""
        while len(self._waiting) >= QUEUE or self._has_many_behind():
            self._changed.clear()
            await self._changed.wait()
        self._waiting.append((kept, fact))
        self._changed.set()

    async def run(self) -> None:
        """Send, until it is cancelled: what was not answered then is sent again by the next sender."""
        parts = self._parts
        while True:
            refused = self._refused.due(parts.steady(), parts.figures.sent)
            if refused is not None:
                await self._try_alone(refused)
            if self._waiting and not self._is_full():
                await self._send_next()
            elif self._refused:
                self._report_held_up()
                await parts.sleep(LOOK_S)
            else:
                self._changed.clear()
                await self._changed.wait()

    def _report_held_up(self) -> None:
        """Log once that others wait for refused facts."""
        if self._holds_up_others() and not self._is_reported:
            self._is_reported = True
            logger.warning(
                "webhooks: others wait for what %s refuses (%d): mend it, or give these up at /admin/webhooks",
                self._parts.logged,
                len(self._refused),
            )

    async def _send_next(self) -> None:
        if self._parts.receiver.batching and len(self._waiting) < self._most:
            await self._parts.sleep(COLLECT_S)
        taken = self._take()
        if not taken:
            return
        attempts = Attempts(self._parts, [fact for _, fact in taken])
        while (error := await attempts.make()) is not None:
            if error.is_refusal:
                self._divide(taken, attempts, error)
                return
            await self._parts.sleep(attempts.wait_s)
        self._most = min(2 * self._most, BATCH)
        self._end(taken)

    def _take(self) -> list[Item]:
        most = self._most if self._parts.receiver.batching else 1
        taken: list[Item] = []
        size = 0
        while self._waiting and len(taken) < most and size < BATCH_BYTES:
            item = self._waiting.popleft()
            if self._refused.holds_up(item):
                continue
            taken.append(item)
            fact = item[1]
            size += FACT_BYTES + (len(fact.data) if isinstance(fact, ClientEvent) else 0)
        self._changed.set()
        return taken

    def _divide(self, items: list[Item], attempts: Attempts, error: NotAccepted) -> None:
        """Go on with the first half of a call that was refused, or with the others if it had one fact."""
        if len(items) == 1:
            now_s, sent = self._parts.steady(), self._parts.figures.sent
            due_s = now_s + attempts.wait_s
            self._refused.add(RefusedFact(items[0], attempts, str(error), now_s, due_s, sent, sent))
        else:
            self._waiting.extendleft(reversed(items))
        self._most = max(len(items) // 2, 1)

    async def _try_alone(self, refused: RefusedFact) -> None:
        is_last = self._refused.is_last_try(refused, self._parts.figures.sent)
        if refused.is_unwanted:
            await refused.attempts.give_up(BY_ADMIN)
        elif (error := await refused.attempts.make(is_last=is_last)) is not None:
            refused.reason = str(error)
            refused.due_s = self._parts.steady() + refused.attempts.wait_s
            if not error.is_refusal:  # So the receiver may be down, and has to accept others again.
                refused.sent_before, refused.follows_last_try = self._parts.figures.sent, False
            return
        self._waiting.extendleft(reversed(self._refused.remove(refused, is_last=is_last)))
        self._is_reported = self._is_reported and len(self._refused) > FEW
        self._end([refused.item])

    def _end(self, items: list[Item]) -> None:
        for kept, _ in items:
            self._done(kept)
        self._changed.set()
