"""When the hub flushes: at once while there is little to do, and a little later while it is busy."""

import asyncio
import logging
from collections.abc import Callable

MAX_PAUSE_S = 0.01
"""Longest pause after a flush, and so what a message may come later under load.

Half of the flush's time is a compromise: a pause as long as the flush saves a fifth of the processor time more and
doubles the median latency under full load, which was 18 ms without a pause and is 25 with half (docs/performance.md).
"""

logger = logging.getLogger(__name__)


class FlushPacer:
    """Runs `flush` soon after it is asked to.

    Nearly all of a delivery is the kernel's work for one write, whatever its length. So after a flush the
    next one waits half as long as that one took: what is published meanwhile travels in the same writes. A server that is
    not busy does not wait, since its last flush was long ago.
    """

    def __init__(self, flush: Callable[[], bool], steady: Callable[[], float]) -> None:
        """Create a pacer.

        Args:
            flush: writes a part of what waits, and says whether more is left.
            steady: the time in seconds, which never jumps.
        """
        self._flush = flush
        self._steady = steady
        self._spent_s = 0.0
        self._not_before_s = 0.0

    def request_flush(self) -> None:
        """Flush in one of the next turns of the loop or, right after a long flush, some milliseconds later."""
        asyncio.get_running_loop().call_soon(self._begin)

    def _begin(self) -> None:
        wait_s = self._not_before_s - self._steady()
        if wait_s > 0:
            asyncio.get_running_loop().call_later(wait_s, self._flush_part)
        else:
            self._flush_part()

    def _flush_part(self) -> None:
        """Write one part, and the others after whatever else is due by then."""
        began_s = self._steady()
        try:
            more = self._flush()
        except Exception:
            # A hub that waits for a flush asks for no other: whatever went wrong for one must not silence all.
            logger.exception("a flush failed: events in it may be lost")
            more = True
        ended_s = self._steady()
        self._spent_s += ended_s - began_s
        if more:
            asyncio.get_running_loop().call_soon(self._flush_part)
            return
        self._not_before_s = ended_s + min(MAX_PAUSE_S, self._spent_s / 2)
        self._spent_s = 0.0
