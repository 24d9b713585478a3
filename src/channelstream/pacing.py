"""When the hub flushes: at once while there is little to do, and a little later while it is busy."""

import asyncio
from collections.abc import Callable

MAX_PAUSE_S = 0.02
"""Longest pause after a flush, and so what a message may come later under load."""


class FlushPacer:
    """Runs `flush` soon after it is asked to.

    Nearly all of a delivery is the kernel's work for one write, whatever its length. So after a flush the
    next one waits as long as that one took: what is published meanwhile travels in the same writes. A server that is
    not busy does not wait, since its last flush was long ago.
    """

    def __init__(self, flush: Callable[[], None], steady: Callable[[], float]) -> None:
        """Create a pacer.

        Args:
            steady: the time in seconds, which never jumps.
        """
        self._flush = flush
        self._steady = steady
        self._not_before_s = 0.0

    def soon(self) -> None:
        """Flush in this turn of the loop or, right after a long flush, some milliseconds later."""
        loop = asyncio.get_running_loop()
        wait_s = self._not_before_s - self._steady()
        if wait_s > 0:
            loop.call_later(wait_s, self._run)
        else:
            loop.call_soon(self._run)

    def _run(self) -> None:
        began_s = self._steady()
        self._flush()
        ended_s = self._steady()
        self._not_before_s = ended_s + min(MAX_PAUSE_S, ended_s - began_s)
