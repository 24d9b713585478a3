"""How long a node takes to register its connections again after Redis has lost all data."""

import asyncio
import time
from contextlib import AsyncExitStack

from channelstream.bench.engines.compared import in_turn
from channelstream.bench.engines.engine_nodes import EngineNode, engine_node
from channelstream.bench.engines.sizes import Sizes
from channelstream.bench.engines.stores import Store, Used, cluster, one_redis
from channelstream.bench.engines.table import Figures, Table, medians
from channelstream.bench.progress import Progress
from channelstream.bench.redis_process import until
from channelstream.core.position import shard_of
from channelstream.engines.redis.address import shard_addresses

CHANNELS = 50
PATIENCE_S = 60.0
TITLE = (
    "`FLUSHALL` under a node with {count:,} connections in {channels} channels, and a call that finds out."
)


async def recovery(sizes: Sizes, progress: Progress) -> list[Table]:
    """Flush each store in each round, in turn."""
    async with AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(each) for each in (one_redis(), cluster(3))]
        nodes = {}
        for store in stores:
            progress.begin(f"recovery, {store.name}")
            progress.show("registering")
            nodes[store.name] = await stack.enter_async_context(engine_node(store))
            await _register(nodes[store.name], sizes.returning)
        rounds: dict[str, list[Figures]] = {store.name: [] for store in stores}
        by_name = {store.name: store for store in stores}
        for number in range(sizes.rounds):
            for name in in_turn(list(rounds), number):
                progress.begin(f"recovery, round {number + 1}, {name}")
                rounds[name].append(await _recover(by_name[name], nodes[name]))
    return [medians("recovery", TITLE.format(count=sizes.returning, channels=CHANNELS), rounds)]


async def _register(node: EngineNode, count: int) -> None:
    members = await node.register([f"user-{number}" for number in range(count)])
    for start in range(CHANNELS):
        await node.join(members[start::CHANNELS], f"channel-{start}", {})


async def _recover(store: Store, node: EngineNode) -> Figures:
    counters = await _counters(store, node)
    before = sum(await store.used(), Used())
    start, started_cpu_s = time.monotonic(), time.process_time()
    await store.flush()
    # The first call discovers that the log is a new one. It is refused, as expected.
    await asyncio.gather(node.engine.head(), node.engine.channels(["channel-0"]), return_exceptions=True)
    await until(
        lambda: _are_counted(store, counters), PATIENCE_S, "the connections were not all counted again"
    )
    seconds, cpu_s = time.monotonic() - start, time.process_time() - started_cpu_s
    used = sum(await store.used(), Used()) - before
    count = len(node.receiver.members)
    return {
        "seconds": seconds,
        "connections/s": count / seconds,
        "script calls each": used.scripts / count,
        "CPU of Redis each, µs": used.cpu_us / count,
        "CPU of the node each, µs": cpu_s * 1e6 / count,
    }


async def _counters(store: Store, node: EngineNode) -> dict[str, int]:
    """Return the keys of the sets of registered connections, with their expected sizes."""
    [status] = await node.engine.cluster.nodes()
    prefixes = [place.prefix for place in shard_addresses(store.address)]
    counters = {f"{prefix}nk:{status.id}": 0 for prefix in prefixes}
    for conn_id, member in node.receiver.members.items():
        names = (conn_id, member.user, node.receiver.channels[conn_id])
        for shard in {shard_of(name, len(prefixes)) for name in names}:
            counters[f"{prefixes[shard]}nk:{status.id}"] += 1
    return counters


async def _are_counted(store: Store, counters: dict[str, int]) -> bool:
    """Return whether all sets have their expected size. A master without the key answers with an error."""
    found = [await master.count(key) for key in counters for master in store.masters]
    return sum(found) >= sum(counters.values())
