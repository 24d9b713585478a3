"""A sample of a node's figures, and how several become one: over a longer time, and over all nodes."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate

from msgspec import Struct
from msgspec.structs import replace

from channelstream.integrations.metrics.meter import BUCKETS_S


class Sample(Struct, frozen=True, array_like=True):
    """The measurements of a node in one interval, stored as an array in this order: a new one is appended.

    Attributes:
        at_s: begin of the interval, in epoch seconds.
        connections: registered connections.
        deliveries: events delivered to connections, per second.
        published: messages accepted, per second.
        delay_ms: longest delay of a timer of the event loop. An event waited at most so long for its turn.
        stalls: how often a client was too slow to be written to.
        memory_bytes: resident memory of the process.
        seconds: how long the node has measured in it; less than the interval after a start, and before an end.
        cpu: processors that the process used: 1.0 is one.
        refused: requests answered with a status of 400 or above, per second.
        latency: writes by the time from the arrival of their oldest event, in the buckets of the metrics. Those of a version
            with others do not count.
        written: events written to streams, per second.
        taken_bytes: bytes of events that the sockets of clients took, per second.
        replayed: events read from the log for clients that missed them, per second.
        lost: channels that clients were sent as lost.
        dropped_bytes: bytes that streams held when they ended.
        engine_latency: calls of the engine by their time, in the same buckets.
        engine_failed: calls that failed because the engine was out of reach.
        engine_away_s: for how long it was out of reach, in seconds.
        descriptors, descriptor_limit: descriptors that the process had open, and might have.
        endings: how many streams and connections ended, by their group (`endings.key_of`).
    """

    at_s: float
    connections: float
    deliveries: float
    published: float
    delay_ms: float
    stalls: int
    memory_bytes: float
    seconds: float
    cpu: float = 0.0
    refused: float = 0.0
    latency: Sequence[int] = ()
    written: float = 0.0
    taken_bytes: float = 0.0
    replayed: float = 0.0
    lost: int = 0
    dropped_bytes: int = 0
    endings: Mapping[str, int] = {}
    engine_latency: Sequence[int] = ()
    engine_failed: int = 0
    engine_away_s: float = 0.0
    descriptors: float = 0.0
    descriptor_limit: float = 0.0


COUNTS = len(BUCKETS_S) + 1
AVERAGES = (
    "connections", "deliveries", "published", "memory_bytes", "cpu", "refused", "written", "taken_bytes", "replayed",
    "descriptors", "descriptor_limit",
)  # fmt: skip
"""What is averaged over time, and summed up over nodes."""
COUNTED = ("stalls", "lost", "dropped_bytes", "engine_failed", "engine_away_s")
"""What is summed up over both, but the time without an engine: of the nodes, the longest counts."""


def over_time(at_s: float, samples: Sequence[Sample]) -> Sample:
    """Return the sample of a longer interval that begins at `at_s`, from those of one node in it."""
    return _merged(at_s, samples, sum(each.seconds for each in samples))


def over_nodes(samples: Sequence[Sample], interval_s: float) -> Sample:
    """Return the sums over all nodes in one interval.

    A node that measured for a part of it counts for that part, and one that measured for longer counts once.
    """
    merged = _merged(samples[0].at_s, samples, interval_s)
    return replace(merged, engine_away_s=max(each.engine_away_s for each in samples))


def _merged(at_s: float, samples: Sequence[Sample], seconds: float) -> Sample:
    merged = {
        name: sum(getattr(each, name) * min(each.seconds, seconds) for each in samples) / seconds
        for name in AVERAGES
    } | {name: sum(getattr(each, name) for each in samples) for name in COUNTED}
    return Sample(
        at_s=at_s,
        seconds=seconds,
        delay_ms=max(each.delay_ms for each in samples),
        endings=sum((Counter(each.endings) for each in samples), Counter()),
        latency=_summed(each.latency for each in samples),
        engine_latency=_summed(each.engine_latency for each in samples),
        **merged,
    )


def _summed(latencies: Iterable[Sequence[int]]) -> list[int]:
    """Add up counts by bucket; those in other buckets are left out."""
    return [sum(counts) for counts in zip(*(each for each in latencies if len(each) == COUNTS), strict=True)]


def quantile_ms(latency: Sequence[int], part: float) -> float | None:
    """Return the time within which a part of the writes were made, in ms; None without any.

    It is interpolated in its bucket, as Prometheus does (`histogram_quantile`); beyond the last bound it is that bound.
    """
    total = sum(latency)
    if not total:
        return None
    wanted, before = part * total, 0
    for number, below in enumerate(accumulate(latency)):
        if below >= wanted:
            if number == len(BUCKETS_S):
                break
            low = BUCKETS_S[number - 1] if number else 0.0
            share = (wanted - before) / latency[number] if latency[number] else 0.0
            return round(1000 * (low + share * (BUCKETS_S[number] - low)), 2)
        before = below
    return 1000 * BUCKETS_S[-1]
