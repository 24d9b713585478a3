"""Runs a scenario: each step on the server and on its reference, and the report."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import UTC, datetime

from channelstream import __version__
from channelstream.bench.drain import drain, spread_drain
from channelstream.bench.load import Load, Signing
from channelstream.bench.measure import Target, measure
from channelstream.bench.processes import machine
from channelstream.bench.progress import Progress
from channelstream.bench.restart import restart
from channelstream.bench.results import FORMAT, Measured, Report, StepReport, medians, ratios
from channelstream.bench.scenarios import Outage, Scenario, Step
from channelstream.bench.servers import product, reference
from channelstream.bench.upgrade import upgrade, upgrade_redis, upgrade_sqlite

_OUTAGES: dict[Outage, Callable[[Load, Sequence[str], Progress], Awaitable[Measured]]] = {
    "restart": restart,
    "drain": drain,
    "spread drain": spread_drain,
    "upgrade": upgrade,
    "upgrade of SQLite": upgrade_sqlite,
    "upgrade of Redis": upgrade_redis,
}


async def conduct(
    scenario: Scenario, target: Target | None, with_reference: bool, progress: Progress
) -> Report:
    """Do all runs of a scenario.

    Args:
        target: the running server to measure; None starts a server for each step.
        with_reference: whether to measure the reference, too.

    Raises:
        BenchFailed: a run failed.
    """
    steps = [await _step(scenario, step, target, with_reference, progress) for step in scenario.steps]
    server = "started for the run" if target is None else target.wire.url
    return _report(scenario, server, steps)


async def _step(
    scenario: Scenario, step: Step, target: Target | None, with_reference: bool, progress: Progress
) -> StepReport:
    """Measure the server and its reference, in turn if there are several rounds, or what an outage does."""
    title = f"{scenario.name}, {step.label}"
    if step.outage is not None:
        progress.begin(title)
        measured = await _OUTAGES[step.outage](step.load, step.server_flags, progress)
        return StepReport(step.label, step.load, measured, None, {})
    rounds = [await _round(title, step, target, with_reference, progress) for _ in range(step.turns)]
    measured = medians([each for each, _ in rounds])
    references = [each for _, each in rounds if each is not None]
    compared = medians(references) if references else None
    return StepReport(step.label, step.load, measured, compared, ratios(measured, compared), step.turns)


async def _round(
    title: str, step: Step, target: Target | None, with_reference: bool, progress: Progress
) -> tuple[Measured, Measured | None]:
    """Measure the reference first, then the server: so thermal throttling does not favour the product."""
    compared = None
    if with_reference and step.comparable is not None:
        progress.begin(f"{title}, reference")
        compared = await _measured(reference(step.comparable), step, progress)
    progress.begin(title)
    server: AbstractAsyncContextManager[Target] = (
        product(*step.server_flags) if target is None else nullcontext(target)
    )
    return await _measured(server, step, progress, step.load.signing), compared


async def _measured(
    server: AbstractAsyncContextManager[Target], step: Step, progress: Progress, signing: Signing = "old"
) -> Measured:
    """Measure a server; a reference knows old signatures only."""
    progress.show("starting")
    async with server as target:
        return await measure(target.signing(signing), step.load, progress)


def _report(scenario: Scenario, server: str, steps: Sequence[StepReport]) -> Report:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Report(FORMAT, __version__, now, scenario.name, machine(), server, list(steps))
