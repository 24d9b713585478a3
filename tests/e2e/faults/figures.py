"""Measurements of a scenario: recorded, and never judged, since a machine may be slow."""

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from itertools import pairwise

import httpx
from prometheus_client.parser import text_string_to_metric_families
from tests.e2e.faults.cluster import ANSWER_S, Node
from tests.e2e.faults.stage import Stage
from tests.http_client import async_client

from channelstream.admin.sample import quantile_ms
from channelstream.integrations.metrics.catalog import Metrics

DELAY = Metrics.loop_delay_seconds.full_name

Delays = dict[Node, list[int]]
"""How often the event loop of each node was late, in the buckets of its metric."""


@dataclass(frozen=True)
class Figures:
    """One row of the table.

    Attributes:
        took_s: from the first message to the last that was received.
        sent: messages, all acknowledged.
        received: by all clients together.
        refused: answers 503.
        broke: requests whose line broke, or that nobody answered.
        ended: streams and polls that the server ended or that broke.
        reconnected: connections that had to be asked for again.
        lost: reports of a loss.
        delay_p50_ms, delay_max_ms: of the event loops of all nodes, from their metrics. A worst one is the
            upper bound of its bucket, or the last bound.
        others_max_ms: the worst of the nodes to which the scenario did nothing.
        grown_mb: by how much the node that grew most was larger than at the beginning, at any time.
    """

    took_s: float
    sent: int
    received: int
    refused: int
    broke: int
    ended: int
    reconnected: int
    lost: int
    delay_p50_ms: float
    delay_max_ms: float
    others_max_ms: float
    grown_mb: float

    @staticmethod
    def head() -> str:
        return "scenario         " + "".join(f"{each.name:>15}" for each in fields(Figures))

    def row(self, name: str) -> str:
        cells = (f"{value:.1f}" if isinstance(value, float) else str(value) for value in astuple(self))
        return f"{name:<17}" + "".join(f"{cell:>15}" for cell in cells)


def figures_of(stage: Stage, took_s: float, delays: Delays, grown_bytes: int) -> Figures:
    others = [delays[node] for node in stage.others if node in delays]
    clients = stage.clients + stage.absent
    return Figures(
        took_s=took_s,
        sent=stage.truth.acknowledged,
        received=sum(client.received for client in clients),
        refused=sum(attempt.status == 503 for attempt in stage.attempts),
        broke=sum(attempt.status is None for attempt in stage.attempts),
        ended=sum(len(client.streams) for client in clients),
        reconnected=sum(client.registered - 1 for client in clients),
        lost=sum(len(client.losses) for client in clients),
        delay_p50_ms=_quantile_ms(delays.values(), 0.5),
        delay_max_ms=_quantile_ms(delays.values(), 1.0),
        others_max_ms=_quantile_ms(others, 1.0),
        grown_mb=grown_bytes / 1e6,
    )


async def delays_of(nodes: Sequence[Node]) -> Delays:
    """Return the delays of the event loop of each node since its start, from its metrics."""
    async with async_client(timeout=ANSWER_S) as http:
        return {node: await _delays_of(http, node) for node in nodes}


async def _delays_of(http: httpx.AsyncClient, node: Node) -> list[int]:
    answer = await http.get(node.url + "/metrics", headers=node.sign("/metrics"))
    [family] = [each for each in text_string_to_metric_families(answer.text) if each.name == DELAY]
    below = [int(sample.value) for sample in family.samples if sample.name == f"{DELAY}_bucket"]
    return [count - before for before, count in pairwise((0, *below))]


def _quantile_ms(delays: Iterable[Sequence[int]], part: float) -> float:
    """Return the time within which a part of the delays were, in ms; of all of them, the bound of the last bucket."""
    return quantile_ms([sum(counts) for counts in zip(*delays, strict=True)], part) or 0.0
