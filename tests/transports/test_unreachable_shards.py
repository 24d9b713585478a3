"""Connections while a shard of their log is out of reach: they need only those in which they are registered."""

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from tests.engines.redis.nodes import take_out_of_reach
from tests.redis_server import RedisServer, running_redis
from tests.transports.test_shards import (
    NO_UPDATE,
    Client,
    Stream,
    connect,
    name_in,
    new_id,
    node_of,
    shards_of,
)
from tests.waiting import soon

from channelstream.close_codes import CloseCode
from channelstream.core.connection import ConnectionState
from channelstream.core.events import Message
from channelstream.core.position import Position, shard_of
from channelstream.core.user import UserUpdate
from channelstream.engines.redis.address import prefixes
from channelstream.errors import Unavailable
from channelstream.service import Node
from channelstream.transports.attachment import Attachment
from channelstream.transports.reading import NO_CHANGE, Change
from channelstream.wire.channelstream import V07


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with running_redis(tmp_path) as server:
        yield server


def put_out_of_reach(node: Node, index: int) -> Callable[[], None]:
    """Break a node's link with a shard, until the returned function is called."""
    return take_out_of_reach(shards_of(node)[index])


class Listening(Client):
    """A client that keeps every item, and judges none."""

    def __init__(self, user: str) -> None:
        super().__init__(user, [], Random(0))
        self.items: list[dict[str, Any]] = []

    def receive(self, items: list[dict[str, Any]]) -> None:
        self.items += items

    def texts(self) -> list[int]:
        return [item["message"]["n"] for item in self.items if item["type"] == "message"]

    def position_in(self, shard: int) -> int:
        position = Position.parse(self.items[-1]["position"])
        assert position is not None
        return position.offsets[shard]


def say(channel: str, number: int) -> Message:
    payload = json.dumps({"n": number}).encode()
    return Message(uuid=new_id(), channel=channel, user="app", payload=payload, timestamp="t")


def test_a_connection_does_not_need_a_shard_it_is_not_registered_in(redis: RedisServer) -> None:
    """It is made, resumes at another node, receives, changes and ends; its offset of that shard is lower, never higher."""

    async def life() -> None:
        before, after = node_of(redis, 3), node_of(redis, 3)
        for node in (before, after):
            await node.start()
        user, channel, more, away = name_in(0, "u"), name_in(1, "c"), name_in(1, "d"), name_in(2, "c")
        stranger = name_in(2, "u")
        update = UserUpdate({"mood": 1}, {}, ["mood"])
        await connect(before, stranger, channel, update=update)
        opened = await connect(before, user, channel, update=update)
        assert shard_of(opened.conn_id, 3) == 0
        await before.publish([say(away, 0)])
        assert await after.head([channel], all_shards=True) == await before.head()
        put_out_of_reach(after, 2)
        await before.publish([say(away, 0)])
        named = await before.head()
        put_out_of_reach(before, 2)
        await before.publish([say(channel, number) for number in range(3)])
        connection = await after.take_over(opened.conn_id)
        assert connection is not None
        client = Listening(user)
        Attachment(after, connection, Stream(client)).start(str(named))
        await soon(lambda: connection.state is ConnectionState.LIVE)
        await after.publish([say(channel, 3)])
        await soon(lambda: client.texts() == [0, 1, 2, 3])
        assert client.items[0]["lost"] == []
        assert client.position_in(2) < named.offsets[2]
        assert (await after.head([channel])).offsets[2] < named.offsets[2]
        assert (await after.head([channel], all_shards=True)).offsets[2] < named.offsets[2]
        # A member's own shard is that out of reach; what is public of it is beside the channel.
        [state] = await after.directory.states({stranger: channel})
        assert state.public_state == {"mood": 1}
        assert await after.subscribe(opened.conn_id, {more: {}}) is not None
        assert await after.unsubscribe(opened.conn_id, [channel]) is not None
        assert await after.end(opened.conn_id, CloseCode.NORMAL, "it is over")
        again = await after.connect(opened.conn_id, user, V07, {channel: {}}, update)
        assert await before.connect(again.conn_id, user, V07, {more: {}}, update) is not None
        assert await before.nodes()
        for node in (before, after):
            await node.close()

    asyncio.run(life())


def test_connections_of_an_unreachable_shard_stay_at_their_node(redis: RedisServer) -> None:
    """Its stream continues at its node; another node takes it over, complete, when it can."""

    async def life() -> None:
        before, after = node_of(redis, 3), node_of(redis, 3)
        for node in (before, after):
            await node.start()
        user, channels = name_in(0, "u"), [name_in(1, "c"), name_in(2, "c")]
        opened = await connect(before, user, channels[0])
        await before.subscribe(opened.conn_id, {channels[1]: {}})
        connection = before.connection(opened.conn_id)
        assert connection is not None
        client = Listening(user)
        stream = Stream(client)
        Attachment(before, connection, stream).start("")
        await soon(lambda: connection.state is ConnectionState.LIVE)
        mend = put_out_of_reach(after, 2)
        with pytest.raises(Unavailable):
            await after.take_over(opened.conn_id)
        await before.publish([say(name, 1) for name in channels])
        await soon(lambda: client.texts() == [1, 1])
        assert not stream.is_over
        for prefix in prefixes(3):
            nodes = redis.cli("HGET", f"{prefix}k:{opened.conn_id}", "nodes")
            assert nodes == before._engine.cluster._registrar.node  # type: ignore[attr-defined]
        mend()
        await soon(lambda: shards_of(after)[2].is_linked)
        moved = await after.take_over(opened.conn_id)
        assert moved is not None
        assert sorted(moved.channels) == sorted(channels)
        assert stream.is_over
        for node in (before, after):
            await node.close()

    asyncio.run(life())


def test_a_connection_does_not_need_a_shard_it_has_left(redis: RedisServer) -> None:
    """It was in a channel there; when that is out of reach, it moves without it."""

    async def life() -> None:
        before, after = node_of(redis, 3), node_of(redis, 3)
        for node in (before, after):
            await node.start()
        user, channels = name_in(0, "u"), [name_in(1, "c"), name_in(2, "c")]
        opened = await before.connect(name_in(1, "k"), user, V07, {name: {} for name in channels}, NO_UPDATE)
        await before.unsubscribe(opened.conn_id, [channels[1]])
        put_out_of_reach(after, 2)
        moved = await after.take_over(opened.conn_id)
        assert moved is not None
        assert list(moved.channels) == channels[:1]
        for node in (before, after):
            await node.close()

    asyncio.run(life())


def test_a_shard_that_loses_its_log_holds_no_stream_of_others_up(redis: RedisServer) -> None:
    """A stream waits for no offset of the former log when what it receives was changed meanwhile."""

    async def life() -> None:
        node, other = node_of(redis, 3), node_of(redis, 3)
        for each in (node, other):
            await each.start()
        channel, away = name_in(1, "c"), name_in(2, "c")
        opened = await connect(node, name_in(0, "u"), channel)
        connection = node.connection(opened.conn_id)
        assert connection is not None
        await node.publish([say(away, 0)])
        await node.catch_up([2])
        client = Listening(connection.user)
        attachment = Attachment(node, connection, Stream(client))
        attachment.start("")
        await soon(lambda: connection.state is ConnectionState.LIVE)
        before = node.hub.offsets

        async def lose() -> Change:
            """Let the other node begin a new log, in which it has received less."""
            mend = put_out_of_reach(node, 2)
            former = shards_of(node)[2].epoch
            redis.cli("DEL", f"{prefixes(3)[2]}log")
            redis.cli("CLIENT", "KILL", "TYPE", "normal")
            await soon(lambda: shards_of(other)[2].epoch != former)
            mend()
            await soon(lambda: shards_of(node)[2].epoch != former)
            await soon(lambda: all(shard.is_linked for shard in shards_of(node)))
            return NO_CHANGE

        await attachment.change(lose)
        assert node.hub.offsets[2] < before[2]
        await soon(lambda: connection.state is ConnectionState.LIVE)
        await node.publish([say(channel, 1)])
        await soon(lambda: client.texts() == [1])
        for each in (node, other):
            await each.close()

    asyncio.run(life())
