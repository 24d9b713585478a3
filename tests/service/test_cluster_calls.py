"""What a node does when its cluster calls: of a log with several shards, only the shard that is meant is touched."""

import asyncio
from itertools import count, product

from tests.service.test_local import timed_node
from tests.service.test_seats import Line

from channelstream.close_codes import CloseCode
from channelstream.core.batch import BufferBatch
from channelstream.core.connection import Connection
from channelstream.core.position import ReadRange, shard_of
from channelstream.core.user import UserUpdate
from channelstream.service.cluster_calls import ClusterCalls
from channelstream.wire.channelstream import V07

SHARDS = 2
BEFORE = ReadRange.of(5)
AFTER = ReadRange.of(3)


def named_in(shard: int, kind: str) -> str:
    """Return a name whose events are in a shard."""
    return next(
        name for name in (f"{kind}-{number}" for number in count()) if shard_of(name, SHARDS) == shard
    )


def test_a_shard_that_lost_its_log_ends_the_streams_that_read_it() -> None:
    """They read its new log from the beginning, and the others' log from where they were; further streams go on."""

    async def life() -> None:
        node, _ = await timed_node()
        hub = node.hub
        calls = ClusterCalls(hub, node._handover, node.remote_calls, node.signals)
        closed: dict[tuple[int, int], list[CloseCode]] = {}
        joined: dict[tuple[int, int], Connection] = {}
        for shards in product(range(SHARDS), repeat=2):
            user, channel = named_in(shards[0], f"user {shards}"), named_in(shards[1], "channel")
            await node.connect(f"c{shards}", user, V07, {channel: {}}, UserUpdate({}, {}))
            connection = node.connection(f"c{shards}")
            assert connection is not None
            connection.delivered, connection.private = (7, 7), BEFORE
            connection.channels[channel] = BEFORE
            closed[shards], joined[shards] = [], connection
            hub.attach(connection, Line(closed[shards]), BufferBatch(1))

        calls.log_replaced(1, (9, 3))

        assert hub.offsets == (9, 3)
        for shards, connection in joined.items():
            assert closed[shards] == ([CloseCode.RESTARTING] if 1 in shards else [])
            assert connection.delivered == (7, 3)
            ranges = [BEFORE if shard == 0 else AFTER for shard in shards]
            assert [connection.private, *connection.channels.values()] == ranges

    asyncio.run(life())
