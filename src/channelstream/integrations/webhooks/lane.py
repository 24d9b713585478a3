"""A lane: some channels and users of a receiver, whose facts are sent one call after the other."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from channelstream.apps.webhooks import Receiver
from channelstream.core.facts import ClientEvent, Fact
from channelstream.integrations.webhooks.formats import Call, call_of, headers_of
from channelstream.integrations.webhooks.schedule import schedule_of
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

logger = logging.getLogger(__name__)

Sleep = Callable[[float], Awaitable[None]]


@dataclass(slots=True)
class Figures:
    """What happened to the calls of a receiver since the process began to send.

    Attributes:
        sent: facts that were answered with 2xx.
        calls: attempts, those that failed included.
        failed: attempts that failed.
        given_up: facts that were given up.
        accepted_s: when a call was accepted last, in epoch seconds; 0 for never.
        error: why the last call that failed was not accepted; empty if none has failed.
        error_s: when that was, in epoch seconds.
        failing_since_s: when the first of the calls failed that have failed since one was accepted; 0 if none has.
    """

    sent: int = 0
    calls: int = 0
    failed: int = 0
    given_up: int = 0
    accepted_s: float = 0.0
    error: str = ""
    error_s: float = 0.0
    failing_since_s: float = 0.0


class NotAccepted(Exception):
    """A call was not answered with 2xx; the text says why, without what the receiver has answered.

    Attributes:
        status: of the answer; 0 if there was none.
        wait_s: after how many seconds the receiver wants it again; 0 if it does not say.
    """

    def __init__(self, reason: str, status: int = 0, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.status = status
        self.wait_s = wait_s


class Post(Protocol):
    """Makes a call."""

    async def __call__(self, headers: dict[str, str], body: bytes) -> None:
        """Raise `NotAccepted` unless it is accepted."""


@dataclass(frozen=True, slots=True)
class LaneParts:
    """What the lanes of a receiver share.

    Attributes:
        wall: returns epoch seconds.
        steady: returns the seconds of a clock that only goes on.
        given_up: takes the facts that were given up, and why.
    """

    receiver: Receiver
    post: Post
    figures: Figures
    wall: Callable[[], float]
    steady: Callable[[], float]
    sleep: Sleep
    given_up: Callable[[tuple[Fact, ...], str], Awaitable[None]]


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
            await self._send(call_of(self._parts.receiver, [fact for _, fact in taken]))
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

    async def _send(self, call: Call) -> None:
        """Make a call, again until it is accepted or given up."""
        parts, figures = self._parts, self._parts.figures
        schedule, began_s, failed = schedule_of(parts.receiver), parts.steady(), 0
        while True:
            figures.calls += 1
            try:
                await parts.post(headers_of(parts.receiver, call, parts.wall()), call.body)
            except NotAccepted as error:
                refused = error
            else:
                self._accepted(call)
                return
            failed += 1
            reason = str(refused)
            final = refused.status in schedule.final
            self._note_failure(reason, final=final)
            if final:
                break
            wait_s = schedule.wait_s(failed, refused.wait_s)
            if parts.steady() - began_s + wait_s > schedule.give_up_s:
                label, count = parts.receiver.label, len(call.facts)
                logger.error("webhooks: events for %s are given up: %d, %s", label, count, reason)
                break
            await parts.sleep(wait_s)
        figures.given_up += len(call.facts)
        await parts.given_up(call.facts, reason)

    def _accepted(self, call: Call) -> None:
        figures = self._parts.figures
        figures.sent += len(call.facts)
        figures.accepted_s = self._parts.wall()
        if figures.failing_since_s:
            figures.failing_since_s = 0.0
            logger.warning("webhooks: %s takes calls again", self._parts.receiver.label)

    def _note_failure(self, reason: str, *, final: bool) -> None:
        figures = self._parts.figures
        figures.failed += 1
        news = not figures.failing_since_s or (final and reason != figures.error)
        figures.error, figures.error_s = reason, self._parts.wall()
        figures.failing_since_s = figures.failing_since_s or figures.error_s
        if news:
            end = ", so its events are given up" if final else ""
            logger.warning("webhooks: %s does not take a call: %s%s", self._parts.receiver.label, reason, end)
