"""Joins of a channel that announces presence, whose cost must not grow with the members; and memory of a member in Redis."""

from contextlib import AsyncExitStack

from channelstream.bench.engines.api import Api, open_api
from channelstream.bench.engines.compared import in_turn
from channelstream.bench.engines.engine_nodes import EngineNode, engine_node
from channelstream.bench.engines.operations import LOG_EVENTS, per
from channelstream.bench.engines.sizes import Sizes
from channelstream.bench.engines.stores import Store, Used, one_redis
from channelstream.bench.engines.table import Figures, Row, Table, medians, significant
from channelstream.bench.engines.timed import Lap
from channelstream.bench.load import BenchFailed
from channelstream.bench.progress import Progress
from channelstream.bench.servers import product

REGISTERED_AT_ONCE = 10_000
JOIN_TITLE = (
    "Joins of a channel that announces presence and has a full log, one after the other, {joins} in each round; members have"
    " a user each."
)
CONNECT_TITLE = (
    "The same by {connects} calls of `POST /connect` of another node, which answers with what it knows of the channel, but"
    " without its users (`include_users` is false)."
)


async def presence(sizes: Sizes, progress: Progress) -> list[Table]:
    """Fill channels with members, then join them in turn."""
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(one_redis())
        node = await stack.enter_async_context(engine_node(store))
        channels = {f"{count:,} members": f"channel-{count}" for count in sizes.members}
        before = await store.memory()
        for count, (name, channel) in zip(sizes.members, channels.items(), strict=True):
            progress.begin(f"presence, {name}")
            before = await store.memory()
            await _fill(node, channel, count, progress)
        memory = (await store.memory() - before) / sizes.members[-1]
        target = await stack.enter_async_context(product("--engine", store.address))
        api = await open_api(target.wire)
        # Joins are slow in a channel with very many members.
        connects = max(10, sizes.joins // 5)
        joined: dict[str, list[Figures]] = {name: [] for name in channels}
        connected: dict[str, list[Figures]] = {name: [] for name in channels}
        for number in range(sizes.rounds):
            for name in in_turn(list(channels), number):
                progress.begin(f"presence, round {number + 1}, {name}")
                run = f"{number}-{channels[name]}"
                joined[name].append(await _join(store, node, channels[name], run, sizes.joins))
                connected[name].append(await _connect(store, api, channels[name], run, connects))
        api.close()
    rows = [Row(f"each of {sizes.members[-1]:,} members", [significant(memory)])]
    return [
        medians("presence", JOIN_TITLE.format(joins=sizes.joins), joined),
        medians("presence-connect", CONNECT_TITLE.format(connects=connects), connected),
        Table(
            "memory",
            "Memory of Redis for a connection with a user of its own and one channel.",
            ["bytes"],
            rows,
        ),
    ]


async def _fill(node: EngineNode, channel: str, count: int, progress: Progress) -> None:
    """Join with `count` connections, and fill the log."""
    settings = {"notify_presence": True, "log_events": LOG_EVENTS}
    for start in range(0, count, REGISTERED_AT_ONCE):
        progress.show("registering", start, count)
        names = [f"{channel}-{number}" for number in range(start, min(start + REGISTERED_AT_ONCE, count))]
        await node.join(await node.register(names), channel, settings)


async def _join(store: Store, node: EngineNode, channel: str, run: str, count: int) -> Figures:
    members = await node.register([f"{run}-{number}" for number in range(count)])
    lap, received = Lap(), node.receiver.received
    before = await _total(store)
    for member in members:
        node.receiver.channels[member.conn_id] = channel
        await lap.of(node.engine.join(member, {channel: {}}))
    used = await _total(store) - before
    if node.receiver.received - received < count - 1:
        raise BenchFailed(f"joins of {channel} were not announced")
    await node.disconnect(members)
    return per(used, count) | {"round trip p50, ms": lap.ms(50)}


async def _connect(store: Store, api: Api, channel: str, run: str, count: int) -> Figures:
    lap, before = api.new_lap(), await _total(store)
    ids = [await api.connect(f"api-{run}-{number}", [channel]) for number in range(count)]
    used, p50_ms = await _total(store) - before, lap.ms(50)
    for conn_id in ids:
        await api.disconnect(conn_id)
    return per(used, count) | {"round trip p50, ms": p50_ms}


async def _total(store: Store) -> Used:
    return sum(await store.used(), Used())
