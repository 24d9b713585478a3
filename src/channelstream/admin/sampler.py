"""Figures of the last hour: a bounded ring of samples, taken off the way of any event.

The hot path keeps plain counters (`Hub.deliveries`, `Node.published`, `Node.stalls`); their growth is read here.
"""

import asyncio
from collections import deque
from pathlib import Path
from resource import getpagesize
from typing import Any, Protocol

from msgspec import Struct

from channelstream.node import Node

SAMPLE_S = 5.0
"""Time between two samples."""
SAMPLES = 720
"""Samples kept: one hour; the oldest goes."""

_STATM = Path("/proc/self/statm")


class Loop(Protocol):
    """What is known of the event loop; `watchdog.Watchdog` is it."""

    def take_delay_s(self) -> float:
        """Return how late a timer came at most since this was last asked."""

    def figures(self) -> dict[str, Any]:
        """Return the slow turns in figures."""

    def rows(self) -> list[dict[str, Any]]:
        """Describe the last slow turns, newest first."""


class Sample(Struct, frozen=True, array_like=True):
    """What was measured over one interval; written as an array, in this order.

    Attributes:
        at_s: its end, in epoch seconds.
        connections: registered at its end.
        deliveries: events handed to connections, per second.
        published: messages accepted, per second.
        delay_ms: the longest time a timer of the loop came late: so long an event waited at most for its turn.
        stalls: how often a client was too slow to be written to.
        memory_bytes: resident memory of the process at its end.
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
        loop: where the delay is read.
        samples: the ring, oldest first.
        count: samples taken since the start, the forgotten ones too.
        stopped: set when the server ends, for whoever waits for more.
    """

    def __init__(self, node: Node, loop: Loop, sample_s: float = SAMPLE_S) -> None:
        self.loop = loop
        self.samples: deque[Sample] = deque(maxlen=SAMPLES)
        self.count = 0
        self.stopped = asyncio.Event()
        self._node = node
        self._sample_s = sample_s
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
        """Return the samples taken after the first `count`, as far as they are kept."""
        new = min(self.count - count, len(self.samples))
        return list(self.samples)[len(self.samples) - new :]

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._sample_s)
            self.take(self.loop.take_delay_s())

    def take(self, delay_s: float) -> None:
        """Append a sample of what happened since the one before."""
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
                memory_bytes=resident_bytes(),
            )
        )
        self.count += 1


def resident_bytes() -> int:
    """Return the memory this process has in RAM (Linux: proc(5), statm)."""
    return int(_STATM.read_bytes().split()[1]) * getpagesize()
