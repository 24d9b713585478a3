"""The measurements of a run, in the form of the JSON document. None means not measured."""

from collections.abc import Sequence
from statistics import median

from msgspec import Struct, structs

from channelstream.bench.histogram import Histogram, middle_of
from channelstream.bench.load import Load, Transport
from channelstream.bench.processes import Machine

FORMAT = 1
"""Version of the document. It changes when the meaning of a key changes."""


class Rate(Struct, frozen=True, forbid_unknown_fields=True):
    """Number and rate of operations, and the server's CPU for each."""

    count: int
    seconds: float
    per_s: float
    cpu_us_each: float | None


class Memory(Struct, frozen=True, forbid_unknown_fields=True):
    """The server's memory before the first client and after the last was attached."""

    before_kb: int
    after_kb: int
    kb_per_connection: float


class Percentiles(Struct, frozen=True, forbid_unknown_fields=True):
    """Durations in milliseconds.

    Attributes:
        samples: number of durations.
    """

    samples: int
    p50: float
    p90: float
    p99: float
    p99_9: float
    max: float


class Delivery(Struct, frozen=True, forbid_unknown_fields=True):
    """The deliveries to the clients.

    Attributes:
        bytes_each: received bytes for each message.
        closed: streams that ended early, by reason.
        distribution: latencies in milliseconds, with the number of messages.
        timeline: seconds since the first message, and deliveries a second.
        generator_load: share of one core that the busiest worker used.
    """

    expected: int
    lost: int
    duplicated: int
    out_of_order: int
    position_disorder: int
    closed: dict[str, int]
    rate: Rate
    bytes_each: float
    latency_ms: Percentiles
    distribution: list[tuple[float, int]]
    timeline: list[tuple[float, float]]
    generator_load: float

    @property
    def is_right(self) -> bool:
        """Whether every message was received once and in order, and no stream ended early."""
        return not (
            self.lost or self.duplicated or self.out_of_order or self.position_disorder or self.closed
        )


class Returned(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What clients have noticed until all were back, after their server had stopped.

    Attributes:
        ends: streams and attempts that ended since then, by reason.
        lost: answers that reported a loss.
        missing: messages that were skipped.
        repeated: messages that were received twice.
    """

    clients: int
    ends: dict[str, int]
    lost: int
    missing: int
    repeated: int

    @property
    def is_right(self) -> bool:
        """Whether every client received every message once and in order."""
        return not (self.lost or self.missing or self.repeated)


class Resume(Returned, frozen=True, kw_only=True):
    """The return of all clients after their server was killed and started again.

    Attributes:
        down_s: from the kill until the new server listens.
        since_listening_ms: from that moment until a client has resumed. It includes the client's own waits.
        attempt_ms: the same from the beginning of the attempt that succeeded.
        server: the clients that resumed, until the last one. The CPU is that of the new server since its start.
    """

    down_s: float
    since_listening_ms: Percentiles
    attempt_ms: Percentiles
    server: Rate


class Drained(Returned, frozen=True, kw_only=True):
    """The return of all clients of a node that stopped while the other nodes went on.

    Attributes:
        back_s: from the signal until the last client had resumed at another node. It includes the clients' own waits.
        before_ms: calls of the other nodes with all clients connected, before the signal.
        during_ms: the same from the signal until all clients were back.
        failed: calls that were refused or not answered.
    """

    back_s: float
    before_ms: Percentiles
    during_ms: Percentiles
    failed: int

    @property
    def is_right(self) -> bool:
        """Whether every call was answered, and every client received every message once and in order."""
        return super().is_right and not self.failed


class Upgrade(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One upgrade of a server under load.

    Attributes:
        exit_code: of the command.
        output: the lines that it printed.
        handed_over: number of sockets of each kind, as the command names them, and of streams that ended with 1012.
        publish_ms: calls that began while the command ran, until their answers.
    """

    exit_code: int
    output: list[str]
    handed_over: dict[str, int]
    publish_ms: Percentiles


class Upgraded(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Upgrades of a server, one after the other, under load.

    Attributes:
        clients: number of clients of each transport.
        between_ms: calls that began before, between and after the upgrades.
        failed: calls that were refused or not answered, by reason.
        before_kb: the server's memory before the first upgrade.
        after_kb: the same after the last.
    """

    clients: dict[Transport, int]
    upgrades: list[Upgrade]
    between_ms: Percentiles
    failed: dict[str, int]
    before_kb: int
    after_kb: int

    @property
    def is_right(self) -> bool:
        """Whether every upgrade succeeded, and every call."""
        return not self.failed and not any(each.exit_code for each in self.upgrades)


class Measured(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One run against one server.

    Attributes:
        connect: calls of /connect.
        attach: streams opened.
        publish: messages accepted.
        requests: calls that published them.
        stall_ms: time of a small request while the clients were idle.
        resume: the return of the clients after a restart.
        drained: the return of the clients of a node that stopped.
        upgraded: the upgrades of a server under load.
        longest_turn_ms: longest turn of the event loop of a server that was started for the run, exact to 5 ms.
    """

    connect: Rate | None = None
    attach: Rate | None = None
    memory: Memory | None = None
    stall_ms: Percentiles | None = None
    publish: Rate | None = None
    requests: int = 0
    delivery: Delivery | None = None
    longest_turn_ms: float | None = None
    resume: Resume | None = None
    drained: Drained | None = None
    upgraded: Upgraded | None = None

    @property
    def is_right(self) -> bool:
        """Whether what was sent has arrived, as far as that was measured."""
        parts = (self.delivery, self.resume, self.drained, self.upgraded)
        return all(part is None or part.is_right for part in parts)


class StepReport(Struct, frozen=True, forbid_unknown_fields=True):
    """One step of a scenario.

    Attributes:
        reference: the same load on the reference server, at about the same time.
        ratios: measured / reference, for figures that both have.
        rounds: in how many turns both were measured; with more than one, the figures are medians.
    """

    label: str
    load: Load
    measured: Measured
    reference: Measured | None
    ratios: dict[str, float]
    rounds: int = 1


class Report(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole document."""

    format: int
    version: str
    time: str
    scenario: str
    machine: Machine
    server: str
    steps: list[StepReport]

    @property
    def is_right(self) -> bool:
        return all(step.measured.is_right for step in self.steps)


def rate(count: int, seconds: float, cpu_s: float | None) -> Rate:
    """Return a rate; the time may be 0."""
    each = None if cpu_s is None or not count else round(cpu_s / count * 1e6, 3)
    return Rate(count, round(seconds, 4), round(count / seconds, 1) if seconds else 0.0, each)


def percentiles(histogram: Histogram) -> Percentiles:
    figures = (*histogram.percentiles_ms((50, 90, 99, 99.9)), histogram.max_ns / 1e6)
    return Percentiles(histogram.total, *(round(figure, 3) for figure in figures))


def distribution(histogram: Histogram) -> list[tuple[float, int]]:
    return [
        (round(middle_of(bucket) / 1e6, 4), histogram.counts[bucket]) for bucket in sorted(histogram.counts)
    ]


def figures(measured: Measured) -> dict[str, float]:
    """Return the figures that are comparable with those of another server."""
    found: dict[str, float | None] = {}
    for name, each in (
        ("connect", measured.connect),
        ("attach", measured.attach),
        ("publish", measured.publish),
    ):
        if each is not None:
            found |= {f"{name}_per_s": each.per_s, f"{name}_cpu": each.cpu_us_each}
    if measured.memory is not None:
        found["memory"] = measured.memory.kb_per_connection
    if measured.delivery is not None:
        delivery = measured.delivery
        found |= {"delivery_per_s": delivery.rate.per_s, "cpu": delivery.rate.cpu_us_each}
        found |= {"latency_p50": delivery.latency_ms.p50, "latency_p99": delivery.latency_ms.p99}
    if measured.stall_ms is not None:
        found["stall_p99_9"] = measured.stall_ms.p99_9
    return {name: figure for name, figure in found.items() if figure}


def ratios(measured: Measured, reference: Measured | None) -> dict[str, float]:
    """Return the ratio of every figure that both have. `cpu` is CPU per delivery."""
    if reference is None:
        return {}
    others = figures(reference)
    return {
        name: round(figure / others[name], 3) for name, figure in figures(measured).items() if name in others
    }


def medians(rounds: Sequence[Measured]) -> Measured:
    """Return rates and memory of the same run in several rounds, as medians, and the longest turn of all of them."""
    first = rounds[0]
    if len(rounds) == 1:
        return first
    memories = [each.memory for each in rounds if each.memory is not None]
    turns_ms = [each.longest_turn_ms for each in rounds if each.longest_turn_ms is not None]
    return structs.replace(
        first,
        connect=_median_rate([each.connect for each in rounds]),
        attach=_median_rate([each.attach for each in rounds]),
        publish=_median_rate([each.publish for each in rounds]),
        memory=_median_memory(memories) if memories else None,
        longest_turn_ms=max(turns_ms, default=None),
    )


def _median_rate(rates: Sequence[Rate | None]) -> Rate | None:
    known = [each for each in rates if each is not None]
    if not known:
        return None
    cpu_us = [each.cpu_us_each for each in known if each.cpu_us_each is not None]
    return Rate(
        known[0].count,
        median(each.seconds for each in known),
        median(each.per_s for each in known),
        median(cpu_us) if cpu_us else None,
    )


def _median_memory(memories: Sequence[Memory]) -> Memory:
    return sorted(memories, key=lambda each: each.kb_per_connection)[len(memories) // 2]
