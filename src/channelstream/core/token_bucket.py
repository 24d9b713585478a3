"""How often something may happen: so many times a second on average, and a number of times at once after a pause."""


class TokenBucket:
    """Tokens that come at a steady rate and are taken, each for one thing that happens.

    Attributes:
        per_s: tokens that come in a second.
        most: tokens that are kept, at least one.
    """

    __slots__ = ("_at_s", "_tokens", "most", "per_s")

    def __init__(self, per_s: float, most: float | None = None, now_s: float = 0.0) -> None:
        """Create a full bucket.

        Args:
            per_s: above 0.
            most: what may be taken at once; None means what comes in a second.
            now_s: of a clock that never jumps.
        """
        self.per_s = per_s
        self.most = max(1.0, per_s if most is None else most)
        self._tokens = self.most
        self._at_s = now_s

    def take(self, count: int, now_s: float) -> float:
        """Take tokens for so many things at once, if they are there.

        More than `most` can be taken from a full bucket only. It is empty afterwards for as long as they would have
        needed to come, so the average stays, and a caller need not know `most`.

        Returns:
            0 if they are taken; else the seconds until they can be.
        """
        self._fill(now_s)
        missing = min(count, self.most) - self._tokens
        if missing > 0:
            return missing / self.per_s
        self._tokens -= count
        return 0.0

    def _fill(self, now_s: float) -> None:
        self._tokens = min(self.most, self._tokens + (now_s - self._at_s) * self.per_s)
        self._at_s = now_s
