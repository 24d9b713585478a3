"""Compares the engines: the cost of a publish and of a delivery."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace

from channelstream.bench.engines.sizes import Sizes
from channelstream.bench.engines.stores import one_redis
from channelstream.bench.engines.table import Figures, Table, medians
from channelstream.bench.engines.timed import Lap, timed
from channelstream.bench.load import BenchFailed, Load
from channelstream.bench.measure import Target, measure
from channelstream.bench.progress import Progress
from channelstream.bench.results import Delivery, Measured
from channelstream.bench.servers import product

AT_ONCE = 16
TITLE = (
    "One node. Round trips of publish calls that one connection makes one after the other, received by one client;"
    f" the same from {AT_ONCE} connections; fan-out to {{clients}} clients by 8 publishers, flat out."
)


@asynccontextmanager
async def _engines() -> AsyncIterator[dict[str, str]]:
    """Yield the value of the option `engine` for each engine."""
    with tempfile.TemporaryDirectory(prefix="channelstream-") as folder:
        async with one_redis() as store:
            yield {"memory": "memory", "sqlite": f"sqlite:///{folder}/log.db", "redis": store.address}


async def engines(sizes: Sizes, progress: Progress) -> list[Table]:
    """Measure each engine in each round, in rotating order."""
    async with _engines() as addresses:
        rounds: dict[str, list[Figures]] = {name: [] for name in addresses}
        for number in range(sizes.rounds):
            for name in in_turn(list(addresses), number):
                progress.begin(f"engines, round {number + 1}, {name}")
                async with product("--engine", addresses[name]) as target:
                    rounds[name].append(await _figures(target, sizes, progress))
    return [medians("engines", TITLE.format(clients=sizes.fanout_clients), rounds)]


def in_turn(names: list[str], number: int) -> Iterator[str]:
    """Yield the names in an order that rotates with each round."""
    start = number % len(names)
    yield from names[start:] + names[:start]


async def _figures(target: Target, sizes: Sizes, progress: Progress) -> Figures:
    lap = Lap()
    one = replace(target, publisher=timed(lap))
    alone = await _right(one, Load(clients=1, messages=sizes.calls, publishers=1), progress)
    many = await _right(target, Load(clients=1, messages=2 * sizes.calls, publishers=AT_ONCE), progress)
    load = Load(clients=sizes.fanout_clients, messages=sizes.fanout_messages)
    fanout = delivery_of(await _right(target, load, progress))
    return {
        "round trip p50, ms": lap.ms(50),
        "p99, ms": lap.ms(99),
        "CPU of the node per call, µs": delivery_of(alone).rate.cpu_us_each or 0.0,
        f"calls/s, {AT_ONCE} at once": many.publish.per_s if many.publish else 0.0,
        "CPU per call then, µs": delivery_of(many).rate.cpu_us_each or 0.0,
        "fan-out, deliveries/s": fanout.rate.per_s,
        "CPU per delivery, µs": fanout.rate.cpu_us_each or 0.0,
    }


async def _right(target: Target, load: Load, progress: Progress) -> Measured:
    """Measure a load without loss.

    Raises:
        BenchFailed: messages were lost, duplicated or out of order.
    """
    measured = await measure(target, load, progress)
    if not measured.is_right:
        raise BenchFailed(f"messages were lost, duplicated or out of order: {measured.delivery}")
    return measured


def delivery_of(measured: Measured) -> Delivery:
    if measured.delivery is None:
        raise BenchFailed("nothing was delivered")
    return measured.delivery
