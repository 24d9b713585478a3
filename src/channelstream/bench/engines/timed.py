"""Times sequential calls."""

import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from channelstream.bench.histogram import Histogram
from channelstream.bench.publishing import Addressed, OpenPublisher, Publisher, open_publisher
from channelstream.bench.wire import Wire

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Lap:
    """A series of round trips.

    Attributes:
        times: the time of each.
    """

    times: Histogram = field(default_factory=Histogram)

    async def of(self, work: Awaitable[T]) -> T:
        """Await one, and record its time."""
        start = time.monotonic_ns()
        result = await work
        self.times.add(time.monotonic_ns() - start)
        return result

    def ms(self, percent: float) -> float:
        return self.times.percentile_ns(percent) / 1e6


@dataclass(frozen=True, slots=True)
class TimedPublisher:
    """A publisher whose calls are timed."""

    publisher: Publisher
    lap: Lap

    async def publish(self, messages: Sequence[Addressed]) -> None:
        await self.lap.of(self.publisher.publish(messages))

    def close(self) -> None:
        self.publisher.close()


def timed(lap: Lap) -> OpenPublisher:
    """Return a function that opens publishers whose calls are timed."""

    async def opened(wire: Wire) -> Publisher:
        return TimedPublisher(await open_publisher(wire), lap)

    return opened
