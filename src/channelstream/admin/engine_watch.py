"""Whether the engine is in reach of this node, and since when; the history has a mark of each change."""

import asyncio
from collections.abc import Callable

from channelstream.service import Node

LOOK_S = 1.0
"""Interval of the looks, in seconds. An outage that is shorter may go unseen; the calls that fail in it are counted."""

Mark = Callable[[str, str], None]


class EngineWatch:
    """Looks at the engine once in a while.

    Attributes:
        is_reachable: whether it was at the last look.
        since_s: when that began, by the steady clock of the node.
        away_s: for how long it was out of reach since the start, in seconds.
    """

    def __init__(self, node: Node, mark: Mark, label: str) -> None:
        """Create a watch of a node that has not started.

        Args:
            mark: writes a mark of a kind, with its text.
            label: of this node, for the marks.
        """
        self._node = node
        self._mark = mark
        self._label = label
        self._looked_s = node.clock.steady()
        self.is_reachable = True
        self.since_s = self._looked_s
        self.away_s = 0.0

    async def run(self) -> None:
        """Look until it is cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            self.look()

    def look(self) -> None:
        """Note whether the engine is in reach now, and mark a change."""
        now_s, is_reachable = self._node.clock.steady(), self._node.is_engine_reachable
        if not self.is_reachable:
            self.away_s += now_s - self._looked_s
        self._looked_s = now_s
        if is_reachable == self.is_reachable:
            return
        lasted_s, self.since_s, self.is_reachable = now_s - self.since_s, now_s, is_reachable
        if is_reachable:
            self._mark(
                "engine back", f"{self._label} reaches {self._node.engine_name} again, after {lasted_s:.0f} s"
            )
        else:
            self._mark("engine lost", f"{self._label} does not reach {self._node.engine_name}")
