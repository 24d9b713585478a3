"""The slow turns and pauses of the event loops of all nodes: how many since their starts, and the latest ones."""

from typing import Any

import msgspec
from msgspec import Struct

from channelstream.admin.sampler import Loop
from channelstream.admin.shared_reading import SharedReading
from channelstream.service import Node

PROCEDURE = "slow turns"
SHOWN = 100
"""Most rows of the table, the newest; a node has fewer (`watchdog.MAX_TURNS`)."""


class _Turns(Struct, frozen=True):
    """The slow turns of one node, and how many there were since its start."""

    slow_turns: int
    longest_turn_ms: float
    pauses: int
    rows: list[dict[str, Any]]


_decode = msgspec.msgpack.Decoder(_Turns).decode


class SlowTurns:
    """Reads the slow turns of all nodes, and answers the calls of the other nodes."""

    def __init__(self, node: Node, loop: Loop) -> None:
        self._calls = node.remote_calls
        self._loop = loop
        self._reading = SharedReading(self._read, node.clock.steady)
        self._calls.register(PROCEDURE, self._answer)

    async def read(self) -> dict[str, Any]:
        """Return the slow turns, the newest first; only those of this node while the engine is out of reach."""
        return await self._reading.get()

    async def _read(self) -> dict[str, Any]:
        results = (await self._calls.call_reachable(PROCEDURE)).results
        found = [(each.label, turns) for each in results if (turns := each.read(_decode))]
        rows = [{**row, "node": label} for label, turns in found for row in turns.rows]
        return {
            "slow_turns": sum(turns.slow_turns for _, turns in found),
            "longest_turn_ms": max((turns.longest_turn_ms for _, turns in found), default=0.0),
            "pauses": sum(turns.pauses for _, turns in found),
            "rows": sorted(rows, key=lambda row: str(row["at"]), reverse=True)[:SHOWN],
        }

    async def _answer(self, argument: bytes) -> bytes:
        return msgspec.msgpack.encode({**self._loop.figures(), "rows": self._loop.rows()})
