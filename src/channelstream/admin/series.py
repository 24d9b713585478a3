"""The series of figures that charts show: the name of each, and how it is read from a sample.

A row of the history has their values in this order; the page finds them by name.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from channelstream.admin.sample import Sample, quantile_ms

Value = float | int | None | Mapping[str, int] | Sequence[tuple[int, int]]
"""None: nothing was measured. Counts by group are for a table."""


def _latency_ms(sample: Sample, part: float) -> float | None:
    return quantile_ms(sample.latency, part)


def _engine_ms(sample: Sample, part: float) -> float | None:
    return quantile_ms(sample.engine_latency, part)


SERIES: dict[str, Callable[[Sample], Value]] = {
    "at_s": lambda sample: sample.at_s,
    "connections": lambda sample: round(sample.connections),
    "deliveries": lambda sample: round(sample.deliveries, 1),
    "published": lambda sample: round(sample.published, 1),
    "delay_ms": lambda sample: sample.delay_ms,
    "stalls": lambda sample: sample.stalls,
    "memory_bytes": lambda sample: round(sample.memory_bytes),
    "cpu_percent": lambda sample: round(100 * sample.cpu, 1),
    "refused": lambda sample: round(sample.refused, 2),
    "latency_p50_ms": partial(_latency_ms, part=0.5),
    "latency_p95_ms": partial(_latency_ms, part=0.95),
    "latency_p99_ms": partial(_latency_ms, part=0.99),
    "written": lambda sample: round(sample.written, 1),
    "taken_bytes": lambda sample: round(sample.taken_bytes),
    "replayed": lambda sample: round(sample.replayed, 1),
    "lost": lambda sample: sample.lost,
    "dropped_bytes": lambda sample: sample.dropped_bytes,
    "ended": lambda sample: sum(sample.endings.values()),
    "endings": lambda sample: sample.endings,
    "engine_p50_ms": partial(_engine_ms, part=0.5),
    "engine_p95_ms": partial(_engine_ms, part=0.95),
    "engine_p99_ms": partial(_engine_ms, part=0.99),
    "engine_failed": lambda sample: sample.engine_failed,
    "engine_away_s": lambda sample: sample.engine_away_s,
    "descriptors": lambda sample: round(sample.descriptors),
    "descriptor_limit": lambda sample: round(sample.descriptor_limit),
}


ENDINGS = list(SERIES).index("endings")


def row_of(sample: Sample) -> list[Value]:
    """Return the values of all series."""
    return [read(sample) for read in SERIES.values()]


def numbered(rows: Iterable[list[Value]]) -> list[str]:
    """Replace the groups in rows by numbers, in pairs with their counts, and return the groups in this order.

    A page fetches up to 1,440 rows, of which each would repeat the names.
    """
    numbers: dict[str, int] = {}
    for row in rows:
        counts = row[ENDINGS]
        assert isinstance(counts, Mapping)  # noqa: S101 - for the types
        row[ENDINGS] = [(numbers.setdefault(group, len(numbers)), count) for group, count in counts.items()]
    return list(numbers)
