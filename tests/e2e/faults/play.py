"""Plays one scenario: cluster, load, fault, and then the checks that all scenarios share."""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.e2e.faults.client import LOBBY, Client
from tests.e2e.faults.cluster import running
from tests.e2e.faults.figures import Figures, delays_of, figures_of
from tests.e2e.faults.scenarios import BIG, SCENARIOS, SHORT, SHORT_EVENTS, Scenario
from tests.e2e.faults.stage import CHANNELS, Stage

SEED = 20_270_131
GROWTH_BYTES = 64_000_000
"""By how much a node may grow in a scenario."""
OUTAGE_S = 20.0
CONFIGS = {LOBBY: {"notify_presence": True}, BIG: {}, SHORT: {"log_events": SHORT_EVENTS}}
LOG_TAIL = 4000


@dataclass(frozen=True)
class Outcome:
    """The outcome of a scenario.

    Attributes:
        lost: the channels reported lost to any client.
    """

    figures: Figures
    lost: frozenset[str]


def play(
    name: str, directory: Path, outage_s: float = OUTAGE_S, with_delays: bool = False, seed: int = SEED
) -> Outcome:
    """Play a scenario by its name: every client receives every acknowledged message of its channels that is not lost.

    Also checked in each: one order of every channel for all clients, no traceback in any log, bounded memory, and for an
    outage that its calls are refused with 503 and that no stream ends.

    Args:
        directory: an empty one, for Redis and what nodes need.
        outage_s: how long an outage of fixed length lasts.
        seed: of channels, nodes, transports and pauses; the order of things between processes differs all the same.
        with_delays: read the delays of the event loop of every node.

    Raises:
        AssertionError: a promise was broken; the logs of the nodes are added.
    """
    scenario = SCENARIOS[name]
    with running(directory, scenario.shape(directory)) as cluster:
        stage = Stage(cluster, Random(seed), outage_s)
        try:
            outcome = asyncio.run(_play(stage, scenario, with_delays))
        except BaseException as error:
            for place, node in enumerate(cluster.all):
                error.add_note(f"node {place}, port {node.port}:\n{node.log[-LOG_TAIL:]}")
            raise
    for node in cluster.all:
        assert "Traceback" not in node.log, node.log
    return outcome


async def _play(stage: Stage, scenario: Scenario, with_delays: bool) -> Outcome:
    begun_s = time.monotonic()
    configs = {name: CONFIGS[name] for name in (LOBBY, *scenario.more_channels)}
    await stage.fill(scenario.absent, scenario.more_channels, configs)
    before = {node: node.resident_bytes for node in stage.cluster.nodes}
    for node in stage.cluster.nodes:
        node.begin_peak()
    async with stage.load():
        await scenario.breaks(stage)
    took_s = time.monotonic() - begun_s
    grown_bytes = max(node.peak_bytes - before[node] for node in stage.cluster.nodes)
    assert grown_bytes < GROWTH_BYTES
    for outage in stage.outages:
        outage.check(stage.attempts, stage.clients)
    for client in stage.clients:
        _check_losses(client, scenario)
    _check_order(stage.clients, scenario)
    delays = await delays_of(stage.cluster.nodes) if with_delays else {}
    lost = frozenset().union(*(lost for client in stage.clients for lost in client.losses))
    return Outcome(figures_of(stage, took_s, delays, grown_bytes), lost)


def _check_losses(client: Client, scenario: Scenario) -> None:
    """Nothing is reported lost but what the scenario loses."""
    for lost in client.losses:
        assert lost <= scenario.loses, f"{sorted(lost)} was reported lost to {client.user}"


def _check_order(clients: list[Client], scenario: Scenario) -> None:
    """All clients receive a channel in one order."""
    for channel in {*CHANNELS, LOBBY} - scenario.loses:
        orders = {tuple(each.accounts[channel].received) for each in clients if channel in each.accounts}
        assert len(orders) == 1, f"{channel} was received in {len(orders)} orders"
