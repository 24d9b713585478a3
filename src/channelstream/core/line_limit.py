"""Bounds how many lines about one thing a log gets: what lasts, or what a stranger repeats, must not fill it."""

from collections import deque

MINUTE_S = 60.0


class LineLimit:
    """Admits a number of lines in a period, and counts the others."""

    def __init__(self, lines: int = 1, period_s: float = MINUTE_S) -> None:
        self._admitted_s: deque[float] = deque(maxlen=lines)
        self._period_s = period_s
        self._omitted = 0

    def admits(self, now_s: float) -> bool:
        """Return whether a line may be written now.

        Args:
            now_s: seconds of a clock that never jumps.
        """
        full = len(self._admitted_s) == self._admitted_s.maxlen
        if full and now_s - self._admitted_s[0] < self._period_s:
            self._omitted += 1
            return False
        self._admitted_s.append(now_s)
        return True

    def take_omitted(self) -> str:
        """Return how many lines were omitted since the last call, as the end of the next line; empty for none."""
        count, self._omitted = self._omitted, 0
        return f"; {count} more not logged" if count else ""
