"""Metrics as values: what one process has at one moment, in the form in which workers send it to each other."""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from msgspec import Struct, structs

Labels = Mapping[str, str]


class Sample(Struct, frozen=True, array_like=True):
    """One line of a scrape.

    Attributes:
        name: of the line, with its suffix such as `_total`.
    """

    name: str
    labels: dict[str, str]
    value: float


class Family(Struct, frozen=True, array_like=True):
    """A metric with its samples.

    Attributes:
        name: without a suffix.
        kind: the type, as OpenMetrics names it.
        text: what it counts.
    """

    name: str
    kind: str
    text: str
    samples: list[Sample]


def of_application(families: Iterable[Family], app_id: str) -> list[Family]:
    """Return the metrics whose samples are those of one application, with nothing of another one."""
    return [
        structs.replace(family, samples=own)
        for family in families
        if (own := [each for each in family.samples if each.labels.get("application") == app_id])
    ]


@dataclass(slots=True)
class Histogram:
    """Counts of observed durations.

    Attributes:
        bounds: the upper bounds of its buckets, in seconds, ascending; a last bucket has the rest.
        counts: observations in each bucket.
        total_s: the sum of all observations.
    """

    bounds: Sequence[float]
    counts: list[int] = field(default_factory=list)
    total_s: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def observe(self, seconds: float, count: int = 1) -> None:
        """Count an observation, or several equal ones."""
        self.counts[bisect_left(self.bounds, seconds)] += count
        self.total_s += seconds * count

    def samples(self, name: str) -> list[Sample]:
        found, below = [], 0
        for bound, count in zip([*map(str, self.bounds), "+Inf"], self.counts, strict=True):
            below += count
            found.append(Sample(f"{name}_bucket", {"le": bound}, below))
        return [*found, Sample(f"{name}_count", {}, below), Sample(f"{name}_sum", {}, self.total_s)]
