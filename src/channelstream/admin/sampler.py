"""Figures of the last hour: a bounded ring of samples, taken by a periodic task.

The hot path only increments counters (`Hub.deliveries`, `Node.published`, `Node.stalls`). A sample has their increase.
"""

import asyncio
from collections import deque
from typing import Any, Protocol

from msgspec import Struct

from channelstream.memory import ResidentMemory
from channelstream.service import Node

SAMPLE_S = 5.0
"""Interval of the samples."""
SAMPLES = 720
"""Most samples kept: one hour. Beyond it the oldest is dropped."""


class Loop(Protocol):
    """Figures of the event loop; `watchdog.Watchdog` implements it."""

    def take_delay_s(self) -> float:
        """Return the longest delay of a timer since the last call."""

    def figures(self) -> dict[str, Any]:
        """Return the figures of slow turns."""

    def rows(self) -> list[dict[str, Any]]:
        """Describe the latest slow turns, newest first."""


class Sample(Struct, frozen=True, array_like=True):
    """The measurements of one interval, encoded as an array in this order.

    Attributes:
        at_s: end of the interval, in epoch seconds.
        connections: connections registered at the end.
        deliveries: events delivered to connections, per second.
        published: messages accepted, per second.
        delay_ms: longest delay of a timer of the event loop. An event waited at most so long for its turn.
        stalls: how often a client was too slow to be written to.
        memory_bytes: resident memory of the process at the end.
    """

    at_s: float
    connections: int
    deliveries: float
    published: float
    delay_ms: float
    stalls: int
    memory_bytes: int


class Sampler:
    """Takes the samples.

    Attributes:
        loop: source of the delay.
        samples: the ring, oldest first.
        count: number of samples since the start, including those that were dropped.
        stopped: set when the server stops, so that watching pages end.
    """

    def __init__(self, node: Node, loop: Loop, sample_s: float = SAMPLE_S) -> None:
        self.loop = loop
        self.samples: deque[Sample] = deque(maxlen=SAMPLES)
        self.count = 0
        self.stopped = asyncio.Event()
        self._node = node
        self._sample_s = sample_s
        self._memory = ResidentMemory()
        self._task: asyncio.Task[None] | None = None
        self._before = (node.clock.steady(), 0, 0, 0)

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        self.stopped.set()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def since(self, count: int) -> list[Sample]:
        """Return the samples after the first `count` ones, as far as they are kept."""
        new = min(self.count - count, len(self.samples))
        return list(self.samples)[len(self.samples) - new :]

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._sample_s)
            self.take(self.loop.take_delay_s())

    def take(self, delay_s: float) -> None:
        """Append a sample of the time since the previous sample."""
        node = self._node
        now = (node.clock.steady(), node.hub.deliveries, node.published, node.stalls)
        passed_s, deliveries, published, stalls = (
            new - old for new, old in zip(now, self._before, strict=True)
        )
        self._before = (now[0], int(now[1]), int(now[2]), int(now[3]))
        self.samples.append(
            Sample(
                at_s=round(node.clock.wall(), 1),
                connections=len(node.hub.connections),
                deliveries=round(deliveries / passed_s, 1) if passed_s else 0.0,
                published=round(published / passed_s, 1) if passed_s else 0.0,
                delay_ms=round(1000 * delay_s, 1),
                stalls=int(stalls),
                memory_bytes=self._memory.read(),
            )
        )
        self.count += 1
