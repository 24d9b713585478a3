"""Token buckets of very many names, such as the addresses of strangers, in bounded memory.

Of each name one number is kept: when its bucket will be full again (the theoretical arrival time of the generic cell rate
algorithm, ITU-T I.371, annex A). A full bucket needs no entry. When there are twice as many entries as wanted, those of full
buckets are dropped, and then those of the fullest ones, until as many as wanted are left. So nobody gets rid of an empty
bucket by a flood of other names: each of these would have to take as much, as often as there are wanted names.
"""

from collections.abc import Hashable
from operator import itemgetter
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)

WANTED: Final = 10_000
"""Names that are wanted; up to twice as many are kept, in 3 MB, and 5 ms to choose them once in so many new names."""
ROUNDING_S: Final = 1e-6
"""What the sums of very many fractions of a second are wrong by at most."""


class TokenBuckets(Generic[K]):
    """A bucket for each name, all of the same size (as `TokenBucket`).

    Attributes:
        per_s: tokens that come in a second.
        most: tokens that are kept, at least one.
    """

    __slots__ = ("_full_at_s", "_wanted", "most", "per_s")

    def __init__(self, per_s: float, most: float | None = None, wanted: int = WANTED) -> None:
        """Create full buckets of all names.

        Args:
            per_s: above 0.
            most: what may be taken at once; None means what comes in a second.
            wanted: names that are kept at least, if they have taken something.
        """
        self.per_s = per_s
        self.most = max(1.0, per_s if most is None else most)
        self._wanted = wanted
        self._full_at_s: dict[K, float] = {}

    def __len__(self) -> int:
        """Number of names that are kept."""
        return len(self._full_at_s)

    def take(self, name: K, count: int, now_s: float) -> float:
        """Take tokens for so many things at once, if they are there.

        More than `most` can be taken from a full bucket only, as of `TokenBucket`.

        Args:
            now_s: of a clock that never jumps.

        Returns:
            0 if they are taken; else the seconds until they can be.
        """
        wait_s = self.wait_s(name, count, now_s)
        if not wait_s:
            self.spend(name, count, now_s)
        return wait_s

    def wait_s(self, name: K, count: int, now_s: float) -> float:
        """Return 0 if so many tokens are there; else the seconds until they are."""
        full_at_s = self._full_at_s.get(name)
        if full_at_s is None:
            return 0.0
        wait_s = full_at_s - now_s - (self.most - min(count, self.most)) / self.per_s
        return wait_s if wait_s > ROUNDING_S else 0.0

    def spend(self, name: K, count: int, now_s: float) -> None:
        """Take tokens whether they are there or not; what is missing is owed."""
        full_at_s = self._full_at_s
        self._full_at_s[name] = max(now_s, full_at_s.get(name, now_s)) + count / self.per_s
        if len(full_at_s) >= 2 * self._wanted:
            self._drop_fullest(now_s)

    def spent(self, name: K, now_s: float) -> float:
        """Return how many tokens have been taken from a bucket that have not come again yet."""
        return max(0.0, self._full_at_s.get(name, now_s) - now_s) * self.per_s

    def fill(self, name: K) -> None:
        """Forget what was taken from a bucket."""
        self._full_at_s.pop(name, None)

    def _drop_fullest(self, now_s: float) -> None:
        emptiest = sorted(self._full_at_s.items(), key=itemgetter(1))[-self._wanted :]
        self._full_at_s = {name: full_at_s for name, full_at_s in emptiest if full_at_s > now_s}
