"""Measurements of a scenario: recorded, and never judged, since a machine may be slow."""

import json
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from statistics import median

import httpx
from tests.e2e.faults.cluster import ANSWER_S, Node
from tests.e2e.faults.stage import Stage
from tests.http_client import async_client

SAMPLE_S = 5.0
DELAY_MS, MEMORY = 4, 6
"""Places in a sample (`channelstream.admin.sample.Sample`)."""


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
        delay_p50_ms, delay_max_ms: of the event loops of all nodes, from their samples: each is the worst of 5 s.
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


def figures_of(stage: Stage, took_s: float, delays: dict[Node, list[float]], grown_bytes: int) -> Figures:
    every = [delay for some in delays.values() for delay in some]
    others = [delay for node in stage.others for delay in delays.get(node, ())]
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
        delay_p50_ms=median(every) if every else 0.0,
        delay_max_ms=max(every, default=0.0),
        others_max_ms=max(others, default=0.0),
        grown_mb=grown_bytes / 1e6,
    )


async def delays_ms(nodes: Sequence[Node], samples: int) -> dict[Node, list[float]]:
    """Return the delays in the samples of each node, once it has taken so many."""
    async with async_client(timeout=ANSWER_S) as http:
        return {node: await _delays_ms(http, node, samples) for node in nodes}


async def _delays_ms(http: httpx.AsyncClient, node: Node, samples: int) -> list[float]:
    """Read the stream that feeds the admin page."""
    found: list[float] = []
    async with http.stream("GET", node.url + "/admin/live", headers=node.sign("/admin/live")) as live:
        async for line in live.aiter_lines():
            if line.startswith("data: "):
                found += [sample[DELAY_MS] for sample in json.loads(line[6:])["samples"]]
                if len(found) >= samples:
                    break
    return found
