"""Connections of a node, where what happens to one of them has to wait for its turn."""

import asyncio

from channelstream.config import Settings
from channelstream.core.events import Dialect
from channelstream.engines.base import UserUpdate
from channelstream.server import build

EMPTY = UserUpdate({}, {})


def test_a_connection_that_comes_back_while_its_end_waits_is_kept() -> None:
    """Whoever ends what is overdue looks again when its turn has come."""

    async def life() -> None:
        node = build(Settings(secret="x", admin_secret="y", unattached_timeout_s=60)).node
        await node.start()
        await node.connect("c", "ann", Dialect.V07, {"a": {}}, EMPTY)
        connection = node.connection("c")
        assert connection is not None
        for stays in (True, False):
            node._held._deadlines.drop(connection)
            connection.deadline_s = None
            node._held._expire_after(connection, -1.0)
            async with node._held.turns.of("c"):
                sweep = asyncio.create_task(node.sweep())
                await asyncio.sleep(0)
                if stays:  # As a repeated /connect does that had the turn.
                    node._held._expire_after(connection, 60.0)
            await sweep
            assert (node.connection("c") is not None) == stays

    asyncio.run(life())
