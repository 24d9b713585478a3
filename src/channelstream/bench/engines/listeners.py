"""The cost of a publish in Redis, by the number of nodes that receive it."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from uuid import uuid4

from channelstream.bench.engines.compared import in_turn
from channelstream.bench.engines.engine_nodes import EngineNode, engine_node
from channelstream.bench.engines.operations import per
from channelstream.bench.engines.sizes import Sizes
from channelstream.bench.engines.stores import Store, Used, one_redis
from channelstream.bench.engines.table import Figures, Table, medians
from channelstream.bench.progress import Progress
from channelstream.core.events import Message
from channelstream.core.timestamps import stamp
from channelstream.engines.redis.address import shard_addresses

READ_BYTES = 1 << 16
NODES = (1, 10, 100)
TITLE = "A publish into a channel with so many subscribed nodes, {count} in each round; the nodes are bare subscriptions."


async def listeners(sizes: Sizes, progress: Progress) -> list[Table]:
    """Publish to few and many nodes, in turn."""
    publishes = max(10, sizes.calls // 3)
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(one_redis())
        node = await stack.enter_async_context(engine_node(store))
        channels = {_name(count): f"received-by-{count}" for count in NODES}
        for count, channel in zip(NODES, channels.values(), strict=True):
            await stack.enter_async_context(_subscribed(store, channel, count))
        rounds: dict[str, list[Figures]] = {name: [] for name in channels}
        for number in range(sizes.rounds):
            for name in in_turn(list(channels), number):
                progress.begin(f"listeners, round {number + 1}, {name}")
                rounds[name].append(await _publish(store, node, channels[name], publishes))
    return [medians("listeners", TITLE.format(count=publishes), rounds)]


def _name(count: int) -> str:
    return f"{count} node{'s' * (count > 1)}"


@asynccontextmanager
async def _subscribed(store: Store, channel: str, nodes: int) -> AsyncIterator[None]:
    """Subscribe `nodes` connections to a channel, as nodes do."""
    [place] = shard_addresses(store.address)
    [master] = store.masters
    async with AsyncExitStack() as stack:
        for _ in range(nodes):
            reader, writer = await asyncio.open_unix_connection(master.socket)
            stack.callback(writer.close)
            writer.write(f"SUBSCRIBE {place.prefix}#c:{channel}\r\n".encode())
            await reader.read(READ_BYTES)
            stack.callback(asyncio.ensure_future(_read_on(reader)).cancel)
        yield


async def _read_on(reader: asyncio.StreamReader) -> None:
    while await reader.read(READ_BYTES):
        pass


async def _publish(store: Store, node: EngineNode, channel: str, count: int) -> Figures:
    before = sum(await store.used(), Used())
    for _ in range(count):
        await node.engine.publish([_message(channel)])
    return per(sum(await store.used(), Used()) - before, count)


def _message(channel: str) -> Message:
    """Return a message of 100 characters, in the form of the API."""
    payload = b'{"text":"%b"}' % (b"x" * 100)
    return Message(
        uuid=str(uuid4()), channel=channel, user="bench", payload=payload, timestamp=stamp(time.time())
    )
