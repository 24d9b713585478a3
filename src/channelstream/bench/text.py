"""A report as text: one table for each step."""

from collections.abc import Iterator

from channelstream.bench.results import (
    Delivery,
    Drained,
    Measured,
    Memory,
    Percentiles,
    Rate,
    Report,
    Resume,
    Returned,
    StepReport,
    Upgrade,
    Upgraded,
)

BUSY = 0.9
"""From this load on, the process of the clients may limit deliveries a second and add latency."""

ENDED = "ended stream"
"""The name of a stream that an upgrade ends, in the output of the command."""

Row = tuple[str, str]


def report_text(report: Report) -> str:
    """Return the report as text."""
    made_on = report.machine
    lines = [
        f"{report.scenario} on {made_on.cpu}, {made_on.cores} core(s), {made_on.python}, {made_on.kernel}"
    ]
    for step in report.steps:
        lines += [
            "",
            f"{step.label}: {step.load.sentence()}{_rounds(step)}",
            *_table(step),
            *_remarks(step.measured),
        ]
    return "\n".join([*lines, *_growth(report)])


def _rounds(step: StepReport) -> str:
    return f"; medians of {step.rounds} rounds" if step.rounds > 1 else ""


def _table(step: StepReport) -> Iterator[str]:
    others = dict(_rows(step.reference)) if step.reference else {}
    if others:
        yield f"  {'':30}{'measured':>16}{'reference':>16}{'ratio':>9}"
    for name, value in _rows(step.measured):
        ratio = step.ratios.get(_RATIOS.get(name, ""))
        yield f"  {name:30}{value:>16}{others.get(name, ''):>16}{'' if ratio is None else f'{ratio:.2f}':>9}".rstrip()


_CONNECT, _ATTACH, _PUBLISH = "calls of /connect", "streams opened", "messages accepted"
_CPU, _MEMORY, _RATE = "CPU per delivery", "memory per connection", "deliveries"
_RATIOS = {
    _CONNECT: "connect_per_s",
    _ATTACH: "attach_per_s",
    _PUBLISH: "publish_per_s",
    f"{_CONNECT}, CPU each": "connect_cpu",
    f"{_ATTACH}, CPU each": "attach_cpu",
    f"{_PUBLISH}, CPU each": "publish_cpu",
    _MEMORY: "memory",
    _RATE: "delivery_per_s",
    _CPU: "cpu",
    "latency p50": "latency_p50",
    "latency p99": "latency_p99",
    "request p99.9": "stall_p99_9",
}
"""The rows of the table, each with the name of its ratio."""


def _rows(measured: Measured) -> Iterator[Row]:
    for name, rate in (
        (_CONNECT, measured.connect),
        (_ATTACH, measured.attach),
        (_PUBLISH, measured.publish),
    ):
        if rate is not None:
            yield from _rate_rows(name, rate)
    if measured.memory is not None:
        yield from _memory_rows(measured.memory)
    if measured.stall_ms is not None:
        yield from _percentile_rows("request", measured.stall_ms)
    if measured.delivery is not None:
        yield from _delivery_rows(measured.delivery)
    if measured.resume is not None:
        yield from _resume_rows(measured.resume)
    if measured.drained is not None:
        yield from _drained_rows(measured.drained)
    if measured.upgraded is not None:
        yield from _upgraded_rows(measured.upgraded)
    if measured.longest_turn_ms is not None:
        yield "longest turn of the loop", f"{measured.longest_turn_ms:,.1f} ms"


def _rate_rows(name: str, rate: Rate) -> Iterator[Row]:
    yield name, f"{rate.per_s:,.0f} /s"
    if rate.cpu_us_each is not None:
        yield f"{name}, CPU each", f"{rate.cpu_us_each:,.1f} µs"


def _resume_rows(resume: Resume) -> Iterator[Row]:
    yield "until the server listens", f"{resume.down_s:,.2f} s"
    yield from _percentile_rows("resumed after", resume.since_listening_ms)
    yield from _percentile_rows("last attempt took", resume.attempt_ms)
    yield from _rate_rows("clients back", resume.server)
    if resume.server.cpu_us_each is not None:
        yield "CPU of the server", f"{resume.server.cpu_us_each * resume.clients / 1e6:,.2f} s"
    yield from _fault_rows(resume)


def _drained_rows(drained: Drained) -> Iterator[Row]:
    yield "all clients back after", f"{drained.back_s:,.1f} s"
    yield from _percentile_rows("call before", drained.before_ms)
    yield from _percentile_rows("call during the drain", drained.during_ms)
    yield "calls that failed", f"{drained.failed:,}"
    yield from _fault_rows(drained)


def _upgraded_rows(upgraded: Upgraded) -> Iterator[Row]:
    for transport, count in upgraded.clients.items():
        yield f"{transport} clients", f"{count:,}"
    succeeded = sum(not each.exit_code for each in upgraded.upgrades)
    yield "upgrades that succeeded", f"{succeeded} of {len(upgraded.upgrades)}"
    yield "streams ended with 1012", f"{sum(each.handed_over.get(ENDED, 0) for each in upgraded.upgrades):,}"
    yield from _percentile_rows("publish between upgrades", upgraded.between_ms)
    yield (
        "longest publish in an upgrade",
        f"{max((each.publish_ms.max for each in upgraded.upgrades), default=0):,.2f} ms",
    )
    yield "calls that failed", f"{sum(upgraded.failed.values()):,}"
    yield "memory before, after", f"{upgraded.before_kb:,}, {upgraded.after_kb:,} KB"


def _fault_rows(found: Returned) -> Iterator[Row]:
    yield "reported as lost", f"{found.lost:,}"
    yield "missing", f"{found.missing:,}"
    yield "received twice", f"{found.repeated:,}"


def _memory_rows(memory: Memory) -> Iterator[Row]:
    yield _MEMORY, f"{memory.kb_per_connection:.2f} KB"


def _percentile_rows(name: str, figures: Percentiles) -> Iterator[Row]:
    for label, figure in (
        ("p50", figures.p50),
        ("p90", figures.p90),
        ("p99", figures.p99),
        ("p99.9", figures.p99_9),
        ("max", figures.max),
    ):
        yield f"{name} {label}", f"{figure:,.2f} ms"


def _delivery_rows(delivery: Delivery) -> Iterator[Row]:
    yield _RATE, f"{delivery.rate.per_s:,.0f} /s"
    yield "deliveries in all", f"{delivery.rate.count:,}"
    if delivery.rate.cpu_us_each is not None:
        yield _CPU, f"{delivery.rate.cpu_us_each:.2f} µs"
    yield "bytes per delivery", f"{delivery.bytes_each:,.0f}"
    yield from _percentile_rows("latency", delivery.latency_ms)
    yield "lost", f"{delivery.lost:,}"
    yield "duplicated", f"{delivery.duplicated:,}"
    yield "out of order", f"{delivery.out_of_order + delivery.position_disorder:,}"


def _remarks(measured: Measured) -> Iterator[str]:
    """Yield remarks about the figures."""
    if (returned := measured.resume or measured.drained) is not None:
        yield "  Why streams and attempts ended (each client loses one stream):"
        yield from (f"  {count:,} x {reason}" for reason, count in returned.ends.items())
    if measured.upgraded is not None:
        for number, each in enumerate(measured.upgraded.upgrades, 1):
            yield _upgrade_line(number, each)
        yield from (f"  {count:,} x {reason}" for reason, count in measured.upgraded.failed.items())
    if measured.delivery is None:
        return
    for reason, count in measured.delivery.closed.items():
        yield f"  {count:,} stream(s) ended early: {reason}"
    if measured.delivery.generator_load > BUSY:
        yield (
            f"  The clients' process used {measured.delivery.generator_load:.0%} of a core, so it may be what limits"
            " deliveries/s and latency."
        )


def _upgrade_line(number: int, upgrade: Upgrade) -> str:
    waits = upgrade.publish_ms
    return (
        f"  {number}. exit code {upgrade.exit_code}; publishes took {waits.p99:,.0f} ms (p99), {waits.max:,.0f} ms at"
        f" most: {'; '.join(upgrade.output)}"
    )


def _growth(report: Report) -> Iterator[str]:
    """Yield comparisons of the later steps with the first."""
    first, *later = [(step.label, step.measured.delivery) for step in report.steps]
    if first[1] is None or not later:
        return
    yield ""
    for label, delivery in later:
        if delivery is None:
            continue
        parts = [
            f"{delivery.bytes_each / first[1].bytes_each:.2f} x the bytes" if first[1].bytes_each else ""
        ]
        if delivery.rate.cpu_us_each is not None and first[1].rate.cpu_us_each:
            parts.append(f"{delivery.rate.cpu_us_each / first[1].rate.cpu_us_each:.2f} x the CPU")
        yield f"{label}, compared with {first[0]}: {' and '.join(filter(None, parts))} per delivery"
