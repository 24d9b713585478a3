"""Counts of durations in logarithmic buckets: bounded in size, mergeable, exact to 3 %."""

from collections.abc import Iterable, Mapping

_SUB_BITS = 5
"""Each power of two has 32 buckets, so a bucket is at most 1/32 of its value wide."""


def bucket_of(value_ns: int) -> int:
    """Return the number of a duration's bucket. Negative durations count as 0."""
    if value_ns < 1 << _SUB_BITS:
        return max(value_ns, 0)
    shift = value_ns.bit_length() - _SUB_BITS - 1
    return (shift + 1 << _SUB_BITS) + (value_ns >> shift) - (1 << _SUB_BITS)


def middle_of(bucket: int) -> int:
    """Return the duration in the middle of a bucket, in nanoseconds."""
    if bucket < 1 << _SUB_BITS:
        return bucket
    shift = (bucket >> _SUB_BITS) - 1
    low = (bucket & (1 << _SUB_BITS) - 1) + (1 << _SUB_BITS) << shift
    return low + (1 << shift >> 1)


class Histogram:
    """Counts of durations. The largest is kept exactly."""

    __slots__ = ("counts", "max_ns", "total")

    def __init__(self, counts: Mapping[int, int] | None = None, max_ns: int = 0) -> None:
        self.counts: dict[int, int] = dict(counts or {})
        self.total = sum(self.counts.values())
        self.max_ns = max_ns

    def add(self, value_ns: int, times: int = 1) -> None:
        bucket = bucket_of(value_ns)
        self.counts[bucket] = self.counts.get(bucket, 0) + times
        self.total += times
        self.max_ns = max(self.max_ns, value_ns)

    def merge(self, other: "Histogram") -> None:
        for bucket, times in other.counts.items():
            self.counts[bucket] = self.counts.get(bucket, 0) + times
        self.total += other.total
        self.max_ns = max(self.max_ns, other.max_ns)

    def percentile_ns(self, percent: float) -> int:
        """Return the duration that `percent` of all durations do not exceed; 0 if there are none."""
        wanted = self.total * percent / 100
        seen = 0
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            if seen >= wanted:
                return min(middle_of(bucket), self.max_ns)
        return self.max_ns

    def percentiles_ms(self, percents: Iterable[float]) -> list[float]:
        return [self.percentile_ns(percent) / 1e6 for percent in percents]
