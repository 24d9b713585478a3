"""The cost of each API call in Redis, with one Redis and in the shards of a cluster."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from channelstream.bench.clients import Client
from channelstream.bench.engines.api import Api, open_api
from channelstream.bench.engines.compared import in_turn
from channelstream.bench.engines.sizes import Sizes
from channelstream.bench.engines.stores import Store, Used, cluster, one_redis
from channelstream.bench.engines.table import Figures, Row, Table, medians, significant
from channelstream.bench.load import BenchFailed
from channelstream.bench.measure import Target
from channelstream.bench.progress import Progress
from channelstream.bench.servers import product

LOG_EVENTS = 10
"""Log size of the channels. The logs are full before the measurement, so that a publish also drops an event."""
STEPS = 7
"""The channels share the calls of a round."""
QUIET_FLAGS = ("--heartbeat-interval-s", "3600", "--ping-interval-s", "3600")
TITLE = (
    "{where}: each call, one after the other, {count} in each round, with {channels} channels whose logs are"
    " full. Commands are those within the script, and subscriptions; a connect is of a new user with one channel."
)
PUBLISH, CONNECT, DISCONNECT = "publish, received by one node", "connect, with one channel", "disconnect"
OPEN = "open a stream"
LOOKS, LOOK_S = 1000, 0.01
"""How often, and after how many seconds, it is looked whether each call has asked Redis."""

Call = Callable[[int], Awaitable[object]]
"""A call about the channel, user or connection with this number."""


@dataclass(slots=True)
class Site:
    """A store with two nodes.

    Attributes:
        apis: the API of each node.
        near: channels with a subscriber at the first node.
        wide: channels with a subscriber at each node.
        shares: calls of the script at each master, by step.
    """

    store: Store
    nodes: Sequence[Target]
    apis: Sequence[Api]
    near: list[str]
    wide: list[str]
    listeners: list[Client] = field(default_factory=list)
    shares: dict[str, list[int]] = field(default_factory=dict)

    async def prepare(self) -> None:
        """Subscribe to the channels, and fill their logs."""
        near, far = self.apis
        for api, names in ((near, self.near), (near, self.wide), (far, self.wide)):
            for name in names:
                config = {name: {"log_events": LOG_EVENTS}}
                user = f"listener-{uuid.uuid4().hex[:8]}"
                conn_id = await api.connect(user, [name], channel_configs=config)
                self.listeners.append(await api.stream(conn_id))
        for name in (*self.near, *self.wide):
            await near.publish(name, LOG_EVENTS)

    def leave(self) -> None:
        for client in self.listeners:
            client.leave()
        for api in self.apis:
            api.close()


async def operations(sizes: Sizes, progress: Progress) -> list[Table]:
    """Measure every step in each store in each round, in turn."""
    count = max(10, sizes.calls // STEPS)
    async with AsyncExitStack() as stack:
        progress.begin("operations")
        progress.show("starting")
        kinds = (one_redis(), *map(cluster, sizes.shards))
        stores = [await stack.enter_async_context(each) for each in kinds]
        sites = {
            store.name: await stack.enter_async_context(_site(store, sizes.call_channels)) for store in stores
        }
        rounds: dict[str, dict[str, list[Figures]]] = {name: {} for name in sites}
        for number in range(sizes.rounds):
            for name in in_turn(list(sites), number):
                progress.begin(f"operations, round {number + 1}, {name}")
                for step, figures in (await _steps(sites[name], count, progress)).items():
                    rounds[name].setdefault(step, []).append(figures)
    tables = [
        medians(
            id_, TITLE.format(where=_where(name), count=count, channels=sizes.call_channels), rounds[name]
        )
        for id_, name in zip(("operations", *map(id_of, sizes.shards)), sites, strict=True)
    ]
    return [*tables, _shares(list(sites.values())[1:], sizes.call_channels)]


def _where(name: str) -> str:
    return name if name == "Redis" else f"A cluster of three masters, a log in {name}, all masters together"


def id_of(shards: int) -> str:
    """Return the id of the table of a cluster."""
    return f"operations-{shards}-shards"


@asynccontextmanager
async def _site(store: Store, channels: int) -> AsyncIterator[Site]:
    flags = ("--engine", store.address, *QUIET_FLAGS)
    async with product(*flags) as one, product(*flags) as other:
        near, wide = ([f"{kind}-{number}" for number in range(channels)] for kind in ("near", "wide"))
        site = Site(store, [one, other], [await open_api(node.wire) for node in (one, other)], near, wide)
        try:
            await site.prepare()
            yield site
        finally:
            site.leave()


async def _steps(site: Site, count: int, progress: Progress) -> dict[str, Figures]:
    """Measure publishing, and the life of connections, step by step."""
    api = site.apis[0]
    run = uuid.uuid4().hex[:8]
    ids: list[str] = []
    clients: list[Client] = []

    def near(number: int) -> str:
        return site.near[number % len(site.near)]

    async def connect(number: int) -> None:
        ids.append(await api.connect(f"user-{run}-{number}", [near(number)]))

    async def stream(number: int) -> None:
        clients.append(await api.stream(ids[number]))

    steps: dict[str, Call] = {
        PUBLISH: lambda number: api.publish(near(number)),
        "publish, received by two": lambda number: api.publish(site.wide[number % len(site.wide)]),
        CONNECT: connect,
        OPEN: stream,
        "subscribe to one more": lambda number: api.subscribe(ids[number], near(number + 1)),
        "unsubscribe from it": lambda number: api.unsubscribe(ids[number], near(number + 1)),
        DISCONNECT: lambda number: api.disconnect(ids[number]),
    }
    found = {}
    for name, call in steps.items():
        progress.show(name)
        found[name] = await _step(site, name, call, count)
    for client in clients:
        client.leave()
    return found


async def _step(site: Site, name: str, call: Call, count: int) -> Figures:
    """Make `count` calls, and return the cost of each."""
    node, lap = site.nodes[0], site.apis[0].new_lap()
    before, cpu_s = await site.store.used(), node.cpu_s() or 0.0
    for number in range(count):
        await call(number)
    after = await _used_after(name, site.store, before, count)
    cpu_s = (node.cpu_s() or 0.0) - cpu_s
    each = [late - early for late, early in zip(after, before, strict=True)]
    shares = site.shares.get(name, [0] * len(each))
    site.shares[name] = [share + used.scripts for share, used in zip(shares, each, strict=True)]
    return per(sum(each, Used()), count) | {
        "CPU of the node, µs": cpu_s * 1e6 / count,
        "round trip p50, ms": lap.ms(50),
    }


async def _used_after(name: str, store: Store, before: Sequence[Used], count: int) -> list[Used]:
    """Return the usage after so many calls: a stream is open before Redis is asked for its log.

    Raises:
        BenchFailed: a call does not ask Redis.
    """
    wanted = sum(used.scripts for used in before) + count
    for _ in range(LOOKS):
        after = await store.used()
        if sum(used.scripts for used in after) >= wanted:
            return after
        await asyncio.sleep(LOOK_S)
    raise BenchFailed(f"{name}: not each call has asked Redis")


def per(used: Used, count: int) -> dict[str, float]:
    """Return the usage of Redis divided by `count`."""
    return {
        "script calls": used.scripts / count,
        "commands": used.commands / count,
        "bytes in": used.bytes_in / count,
        "bytes out": used.bytes_out / count,
        "µs in commands": used.busy_us / count,
        "CPU of Redis, µs": used.cpu_us / count,
    }


def _shares(sites: Sequence[Site], channels: int) -> Table:
    """Return the table of how evenly the masters are used."""
    rows = []
    for site in sites:
        for step in (PUBLISH, CONNECT, DISCONNECT):
            calls = site.shares[step]
            shares = sorted((100 * each / sum(calls) for each in calls), reverse=True)
            rows.append(Row(f"{site.store.name}: {step}", [significant(share) for share in shares]))
    title = f"Calls of the script at each of three masters, in percent, with {channels} channels."
    return Table("shares", title, ["busiest", "second", "least"], rows)
