"""The most frequent of very many names, in bounded memory (J. Misra and D. Gries, Finding repeated elements, 1982).

Counters are kept for some names. When there are twice as many as wanted, the count of the first one that is not wanted is
subtracted from all, and those without a count left are dropped: as the original does with each name that comes when no
counter is free, but for many at once, so that a count costs no more than that of a dict (D. Anderson et al., A
High-Performance Algorithm for Identifying Frequent Items in Data Streams, 2017). So a count is too low by at most the sum of
all counts divided by the wanted number, and a name that has more than that is never missing.
"""

from collections import Counter, deque
from collections.abc import Hashable, Iterable, Mapping
from heapq import nlargest
from operator import itemgetter
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

WANTED = 500
"""Names that are wanted; up to twice as many are counted."""
WINDOWS = 12
"""Windows that rates are about."""
WINDOW_NAMES = 200
"""Names of a window that are kept, those with the highest counts."""


class Frequent(dict[K, int]):
    """Counts by name: `counts[name] += 1`, with any positive number."""

    __slots__ = ("_wanted",)

    def __init__(self, wanted: int = WANTED) -> None:
        super().__init__()
        self._wanted = wanted

    def __missing__(self, name: K) -> int:
        if len(self) >= 2 * self._wanted:
            self._drop_rare()
        return 0

    def _drop_rare(self) -> None:
        [*_, least] = nlargest(self._wanted + 1, self.values())
        left = {name: count - least for name, count in self.items() if count > least}
        self.clear()
        self.update(left)

    def top(self, count: int) -> list[tuple[K, int]]:
        """Return the names with the highest counts, those first."""
        return nlargest(count, self.items(), key=itemgetter(1))


class RecentRates(Generic[K]):
    """How often names came in the last windows.

    Args:
        counts: those of the present window.
    """

    def __init__(self, counts: Frequent[K]) -> None:
        self._counts = counts
        self._windows: deque[tuple[float, list[tuple[K, int]]]] = deque(maxlen=WINDOWS)

    def turn(self, seconds: float) -> None:
        """End the present window, which has lasted for so long."""
        self._windows.append((seconds, self._counts.top(WINDOW_NAMES)))
        self._counts.clear()

    def rates(self) -> dict[K, float]:
        """Return how often each name came, per second."""
        seconds = sum(seconds for seconds, _ in self._windows)
        total = merged(dict(counts) for _, counts in self._windows)
        return {name: count / seconds for name, count in total.items()} if seconds else {}


def merged(counts: Iterable[Mapping[K, float]]) -> dict[K, float]:
    """Add up counts by name, as those of several nodes."""
    total: Counter[K] = Counter()
    for each in counts:
        total.update(each)
    return dict(total)
