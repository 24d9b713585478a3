"""The samples of the last hour."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from channelstream.admin.sampler import SAMPLES, Sampler
from channelstream.service import Node
from channelstream.watchdog import Watchdog


class MovedClock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def steady(self) -> float:
        return self.now_s

    def wall(self) -> float:
        return 1_000_000.0 + self.now_s


def counters() -> Any:
    """The counters that a sampler reads from a node."""
    hub = SimpleNamespace(deliveries=0, connections={})
    return SimpleNamespace(clock=MovedClock(), hub=hub, published=0, stalls=0)


def test_a_sample_is_what_happened_since_the_last() -> None:
    """Counters become rates over the time that has passed; stalls stay a number."""
    node = counters()
    sampler = Sampler(cast(Node, node), Watchdog(0.1))
    node.hub.deliveries, node.published, node.stalls, node.clock.now_s = 1000, 50, 3, 110.0
    sampler.take(0.0125)
    node.hub.connections["a"] = None
    node.clock.now_s = 115.0
    sampler.take(0.0)
    first, second = sampler.samples
    assert (first.deliveries, first.published, first.stalls, first.delay_ms) == (100.0, 5.0, 3, 12.5)
    assert (second.deliveries, second.published, second.stalls, second.connections) == (0.0, 0.0, 0, 1)
    assert (second.at_s, second.memory_bytes > 0) == (1_000_115.0, True)


def test_an_hour_is_kept() -> None:
    """The ring forgets the oldest, and knows which samples a watcher has not seen."""
    node = counters()
    sampler = Sampler(cast(Node, node), Watchdog(0.1))
    for number in range(SAMPLES + 10):
        node.clock.now_s += 5.0
        node.published += number
        sampler.take(0.0)
    assert len(sampler.samples) == len(sampler.since(0)) == SAMPLES
    assert sampler.since(sampler.count - 2) == list(sampler.samples)[-2:]
    assert sampler.since(sampler.count) == []


def test_it_samples_by_itself_until_it_is_stopped() -> None:
    """Once started it takes samples; stopping ends its task and wakes its waiters."""

    async def main() -> Sampler:
        sampler = Sampler(cast(Node, counters()), Watchdog(0.1), sample_s=0.002)
        sampler.start()
        while sampler.count < 2:
            await asyncio.sleep(0)
        await sampler.stop()
        return sampler

    assert asyncio.run(main()).stopped.is_set()
