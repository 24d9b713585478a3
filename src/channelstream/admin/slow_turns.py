"""The slow turns and pauses of the event loops of all nodes: how many since their starts, and the latest ones."""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from channelstream.admin.all_nodes import AllNodes
from channelstream.admin.sampler import Loop
from channelstream.service import Node

PROCEDURE = "slow turns"
SHOWN = 100
"""Most rows of the table, the newest; a node has fewer (`watchdog.MAX_TURNS`)."""


class Turns(Struct, frozen=True):
    """The slow turns of one node, and how many there were since its start."""

    slow_turns: int
    longest_turn_ms: float
    pauses: int
    rows: list[dict[str, Any]]


def slow_turns(node: Node, loop: Loop) -> AllNodes[Turns, dict[str, Any]]:
    """Return the reading of the counts, and of the slow turns, the newest first."""

    async def own() -> dict[str, Any]:
        return {**loop.figures(), "rows": loop.rows()}

    return AllNodes(node, PROCEDURE, Turns, own, _combined)


def _combined(answers: Sequence[tuple[str, Turns]]) -> dict[str, Any]:
    rows = [{**row, "node": label} for label, turns in answers for row in turns.rows]
    return {
        "slow_turns": sum(turns.slow_turns for _, turns in answers),
        "longest_turn_ms": max((turns.longest_turn_ms for _, turns in answers), default=0.0),
        "pauses": sum(turns.pauses for _, turns in answers),
        "rows": sorted(rows, key=lambda row: str(row["at"]), reverse=True)[:SHOWN],
    }
