"""A node stays subscribed to what it is joining, however long that takes."""

import asyncio
from typing import Any

from tests.engines.conformance import message
from tests.engines.conformance.nodes import received
from tests.engines.redis.nodes import Nodes, published
from tests.waiting import soon


def test_a_join_that_waits_keeps_its_subscriptions(with_one_shard: Any) -> None:
    """Collections in between, and one before the node counts the member, unsubscribe nothing; later ones do."""

    async def life(nodes: Nodes) -> None:
        engine, listener = await nodes.member("ann", "a")
        speaker, _ = await nodes.node()
        [shard] = engine._shards
        gate, call = asyncio.Event(), shard.client.call
        member, channels = listener.members["ann"]

        async def later(operation: str, **arguments: Any) -> Any:
            if operation == "join":
                await gate.wait()
            return await call(operation, **arguments)

        shard.client.call = later  # type: ignore[method-assign]
        joining = asyncio.create_task(engine.join(member, {"b": {}}))
        await soon(lambda: "#c:b" in shard.subscriber.subscribed)
        for _ in range(3):
            await shard.subscriber.unsubscribe_unused()
        gate.set()
        await joining
        await shard.subscriber.unsubscribe_unused()
        channels.add("b")
        await published(speaker, message("m", channel="b"))
        await soon(lambda: received(listener) == ["m"])
        channels.remove("b")
        for _ in range(2):
            await shard.subscriber.unsubscribe_unused()
        assert "#c:b" not in shard.subscriber.subscribed

    with_one_shard(life)
