"""Decides when the hub flushes: at once on an idle server, and after a short pause on a busy one.

Why pausing pays: a delivery costs little more than one `write` system call, whatever its length. Events that are
published while a connection waits for its flush are written with the same call. So a pause after each flush saves
calls, as long as events arrive during it, at the price of latency.

The pause is half of the time that the last flush took, and 10 ms at most. It is proportional to the load: a flush of
few connections takes microseconds, and so does its pause; a flush of 20,000 connections takes 100 ms, and 10 ms more
do not matter. It ends as soon as `core.rounds.MANY_EVENTS` wait: the write is then a small part of what a delivery
costs, and further events would mostly wait for each other (docs/performance.md). A timer with a fixed period would delay
the first event on an idle server, too. Here an idle server does not wait, since its last flush ended long ago. Nor does
an event that waits alone: at a steady rate of single messages a pause would have nothing to gather, and would only add
to the delay of each message.

Invariant: a hub that has asked for a flush gets one, even if a flush fails. The hub asks once, and not again until it
was flushed: an error that ended the pacer would silence every connection.
"""

import asyncio
import logging
from collections.abc import Callable

from channelstream.core.rounds import MANY_EVENTS
from channelstream.slices import TURN_S

MAX_PAUSE_S = 0.01
"""Longest pause after a flush, which is the most that it adds to the latency of an event."""
FEW_EVENTS = 4
"""Most events that are few. More are a load in which calls between the parts of a flush would add to the latency of all."""
SHORT_TURN_S = 0.0001
"""Longest turn of a flush, plus the last step, while few events wait for the next one: calls do not wait for its rest."""
VERY_MANY_EVENTS = 4 * MANY_EVENTS
"""Events that wait though publishers are held back: other nodes, long lists and calls that announce who joins bring them."""
LONG_TURN_S = 0.008
"""Longest turn of a flush while `VERY_MANY_EVENTS` wait for the next one.

Calls that announce who joins bring an event each between two turns, and more events make the next flush longer, which has
more turns, and so more events. Long turns keep flushes from growing in this way, at the price of all other calls.
"""

logger = logging.getLogger(__name__)


class FlushPacer:
    """Calls `flush` after each request for it."""

    def __init__(
        self,
        flush: Callable[[], bool],
        waiting: Callable[[], int],
        steady: Callable[[], float],
        on_written: Callable[[float], None] = lambda latency_s: None,
    ) -> None:
        """Create a pacer.

        Args:
            flush: writes a small part of the waiting batches; returns whether more is left.
            waiting: returns the number of events that wait for a flush.
            steady: a clock that never jumps, in seconds.
            on_written: called after each turn of a flush with the age of the oldest event that it has written, in seconds.
        """
        self._flush = flush
        self._waiting = waiting
        self._steady = steady
        self._spent_s = 0.0
        self._not_before_s = 0.0
        self._pause: asyncio.TimerHandle | None = None
        self._on_written = on_written
        # When the first event arrived of those that are written, and of those that wait for the next flush.
        self._written_since_s = 0.0
        self._waiting_since_s: float | None = None
        self._part_ended_s: float | None = None

    def request_flush(self) -> None:
        """Flush in the next loop turn; if a few events wait then, after the pause that follows the last flush."""
        if self._waiting_since_s is None:
            self._waiting_since_s = self._steady()
        asyncio.get_running_loop().call_soon(self._begin)

    def _begin(self) -> None:
        wait_s = self._not_before_s - self._steady()
        if wait_s > 0 and 1 < self._waiting() < MANY_EVENTS:
            self._pause = asyncio.get_running_loop().call_later(wait_s, self._end_pause)
        else:
            self._flush_part()

    def end_pause(self) -> None:
        """Flush in the next loop turn, if there is a pause: enough events wait."""
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
            asyncio.get_running_loop().call_soon(self._flush_part)

    def _end_pause(self) -> None:
        self._pause = None
        self._flush_part()

    def _flush_part(self) -> None:
        """Flush for one turn of the loop; the rest follows after other work that is due."""
        began_s = self._steady()
        if self._part_ended_s is None:
            self._written_since_s, self._waiting_since_s = self._waiting_since_s or began_s, None
        elif self._waiting_since_s is None and self._waiting():
            # It arrived between the two parts, and belongs to the next flush.
            self._waiting_since_s = self._part_ended_s
        try:
            while (more := self._flush()) and self._steady() < began_s + self._turn_s():
                pass
        except Exception:
            # The hub does not ask again: the error of one connection must not silence all others.
            logger.exception("a flush failed: events in it may be lost")
            more = True
        ended_s = self._part_ended_s = self._steady()
        self._spent_s += ended_s - began_s
        self._on_written(ended_s - self._written_since_s)
        if more:
            asyncio.get_running_loop().call_soon(self._flush_part)
            return
        self._not_before_s = ended_s + min(MAX_PAUSE_S, self._spent_s / 2)
        self._spent_s, self._part_ended_s = 0.0, None

    def _turn_s(self) -> float:
        """Return how long a turn may last."""
        waiting = self._waiting()
        if waiting <= FEW_EVENTS:
            return SHORT_TURN_S
        return TURN_S if waiting < VERY_MANY_EVENTS else LONG_TURN_S
