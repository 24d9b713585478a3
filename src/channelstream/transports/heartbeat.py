"""One timer for the heartbeats of all streams.

A ring of slots, of which each tick serves one: each stream gets one heartbeat per round, and the streams are spread
over the ring, so that no tick has to serve all of them. A timer for each stream would cost memory for every idle one.
"""

import asyncio
from math import ceil
from typing import Protocol

TICK_S = 0.1
"""Time between two slots: 15,000 streams with a heartbeat each 5 s are 300 writes a tick."""


class HeartbeatTarget(Protocol):
    def beat(self) -> None:
        """Send a heartbeat, and a ping if one is due."""


class Heartbeat:
    """The ring and its timer.

    Attributes:
        count: streams in the ring.
        empty: set while there are none.
        spreads: streams that are added come from another process at once, so each gets another slot than the one before.
    """

    def __init__(self, interval_s: float) -> None:
        self._slots: list[dict[HeartbeatTarget, None]] = [
            {} for _ in range(max(1, ceil(interval_s / TICK_S)))
        ]
        self.count = 0
        self.empty = asyncio.Event()
        self.empty.set()
        self.spreads = False
        self._next = self._spread = 0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Beat from now on; this may be called again."""
        self.stop()
        self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def add(self, stream: HeartbeatTarget) -> int:
        """Add a stream, whose first heartbeat is a whole interval away unless the ring `spreads`; return its slot."""
        self._spread += self.spreads
        slot = (self._spread if self.spreads else self._next - 1) % len(self._slots)
        self._slots[slot][stream] = None
        if not self.count:
            self.empty.clear()
        self.count += 1
        return slot

    def remove(self, stream: HeartbeatTarget, slot: int) -> None:
        del self._slots[slot][stream]
        self.count -= 1
        if not self.count:
            self.empty.set()

    def _tick(self) -> None:
        self.start()
        due = self._slots[self._next]
        self._next = (self._next + 1) % len(self._slots)
        for stream in list(due):
            stream.beat()
