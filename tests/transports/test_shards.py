"""Sessions over a log in several shards: clients move between two nodes, connect and leave, and miss nothing."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from tests.redis_server import RedisServer, running_redis
from tests.waiting import soon

from channelstream.clock import RandomIds, SystemClock, new_epoch
from channelstream.close_codes import CloseCode
from channelstream.core.connection import ConnectionState
from channelstream.core.events import Message
from channelstream.core.hub import Hub
from channelstream.core.log import PRIVATE
from channelstream.core.position import Position, max_offsets, shard_of
from channelstream.core.registry_limits import Lifetimes, RegistryLimits
from channelstream.core.user import UserUpdate
from channelstream.engines.redis.address import prefixes, shard_addresses
from channelstream.engines.redis.engine import RedisEngine
from channelstream.engines.redis.shard_state import RedisSettings
from channelstream.errors import ChannelstreamError, Unavailable
from channelstream.pacing import FlushPacer
from channelstream.service import Node, NodeLimits, Opened
from channelstream.transports.attachment import Attachment
from channelstream.wire.channelstream import V07
from channelstream.wire.framing import Framing
from channelstream.wire.protocols import PROTOCOLS

new_id = RandomIds().new
CHANNELS = [f"channel-{number}" for number in range(7)]
MESSAGES = 60
"""Published in each channel, and as many to each user."""
USERS = ["ann", "bob", "eve", "joe"]
NO_UPDATE = UserUpdate({}, {})
PATIENCE_S = 60.0


class Stream:
    """One stream of a client, which checks every item as it is written."""

    session = PROTOCOLS.session_of(V07, Framing.POLL)
    format = session.format

    def __init__(self, client: "Client") -> None:
        self.is_over = False
        self._client = client

    def write(self, data: bytes) -> None:
        self._client.receive(json.loads(data))

    def write_first(self, data: bytes) -> None:
        self._client.receive(json.loads(data))

    def caught_up(self) -> None:
        """Nothing to do."""

    def close(self, code: CloseCode, reason: str) -> None:
        self.is_over = True

    def buffered_bytes(self) -> int:
        return 0


class Client:
    """A user's connection, which moves from node to node.

    Attributes:
        received: the numbers received in each channel, and of private messages under the user's name.
    """

    def __init__(self, user: str, channels: list[str], random: Random) -> None:
        self.user = user
        self.channels = channels
        self.delivered: dict[str, list[int]] = {name: [] for name in [*channels, user]}
        self.position = ""
        self._random = random

    def receive(self, items: list[dict[str, Any]]) -> None:
        for item in items:
            if item["type"] == "resumed":
                assert item["lost"] == []
            else:
                self.delivered[item["channel"] or self.user].append(item["message"]["n"])
            before, after = Position.parse(self.position), Position.parse(item["position"])
            assert after is not None
            assert before is None or max_offsets(before.offsets, after.offsets) == after.offsets, (
                "a position went back"
            )
            self.position = item["position"]

    @property
    def has_all(self) -> bool:
        return all(len(numbers) == MESSAGES for numbers in self.delivered.values())

    async def wander(self, nodes: list[Node], conn_id: str) -> None:
        """Listen for a while at any node, then at another, until everything has come."""
        while not self.has_all:
            node = self._random.choice(nodes)
            connection = await node.take_over(conn_id)
            assert connection is not None
            stream = Stream(self)
            attachment = Attachment(node, connection, stream)
            attachment.start(self.position)
            for _ in range(self._random.randrange(1, 40)):
                if self._random.random() < 0.1:
                    attachment.pause()
                    await asyncio.sleep(0.001)  # real time: Redis answers meanwhile.
                    attachment.resume()
                await asyncio.sleep(0.001)  # real time: Redis answers meanwhile.
                if stream.is_over or self.has_all:
                    break
            attachment.lost(grace_s=60.0)


def node_of(redis: RedisServer, shards: int) -> Node:
    [place] = shard_addresses(redis.address)
    clock = SystemClock()
    pacer = FlushPacer(lambda: hub.flush(), lambda: hub.waiting_events, clock.steady)
    hub = Hub(PROTOCOLS.formats, pacer.request_flush, pacer.end_pause)
    engine = RedisEngine(
        [replace(place, prefix=prefix) for prefix in prefixes(shards)],
        RegistryLimits(),
        Lifetimes(),
        new_id,
        new_epoch,
        "",
        RedisSettings(),
    )
    return Node(engine, hub, clock, new_id, NodeLimits())


async def publish(nodes: list[Node], channel: str | None, user: str, random: Random) -> None:
    """Publish all messages of a channel, or to a user, one after the other and each at any node."""
    only = frozenset({user}) if channel is None else None
    for number in range(MESSAGES):
        payload = json.dumps({"n": number}).encode()
        event = Message(uuid=new_id(), channel=channel, user="app", payload=payload, timestamp="t", only=only)
        await random.choice(nodes).publish([event])


async def connect(
    node: Node, user: str, *channels: str, update: UserUpdate = NO_UPDATE, since: str = ""
) -> Opened:
    """Register a connection of a user with an id that is drawn for it."""
    named: dict[str, dict[str, Any]] = {name: {} for name in channels}
    return await node.connect(node.draw_id(user, node.new_id), user, V07, named, update, since)


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with running_redis(tmp_path) as server:
        yield server


@pytest.mark.parametrize("shards", [1, 2, 5])
def test_wandering_clients_miss_nothing(redis: RedisServer, shards: int) -> None:
    """Each receives all of its channels and all its private messages, in order and once; positions only grow."""

    async def life() -> None:
        random = Random(shards)
        nodes = [node_of(redis, shards) for _ in range(2)]
        for node in nodes:
            await node.start()
        clients = [Client(user, random.sample(CHANNELS, 4), random) for user in USERS]
        opened = []
        for client in clients:
            opened.append(await connect(nodes[0], client.user, *client.channels))
            client.position = str(await nodes[0].head())
        work = [client.wander(nodes, each.conn_id) for client, each in zip(clients, opened, strict=True)]
        work += [publish(nodes, channel, "", random) for channel in CHANNELS]
        work += [publish(nodes, None, user, random) for user in USERS]
        async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
            for each in work:
                group.create_task(each)
        for client in clients:
            assert client.delivered == {
                name: list(range(MESSAGES)) for name in [*client.channels, client.user]
            }
        for node in nodes:
            await node.close()

    asyncio.run(life())


def test_events_are_delivered_while_a_channel_cannot_be_left(redis: RedisServer) -> None:
    """The connection is still in it, and its position says that it has received everything."""

    async def life() -> None:
        node = node_of(redis, 1)
        await node.start()
        opened = await connect(node, "ann", "a")
        connection = node.connection(opened.conn_id)
        assert connection is not None
        client = Client("ann", ["a"], Random(0))
        Attachment(node, connection, Stream(client)).start("")
        await soon(lambda: connection.state is ConnectionState.LIVE)

        async def refused(*_: Any) -> None:
            event = Message(uuid=new_id(), channel="a", user="app", payload=b'{"n": 1}', timestamp="t")
            await node.publish([event])
            await soon(lambda: client.delivered["a"] == [1])
            raise Unavailable("Not now.")

        node._engine.leave = refused  # type: ignore[method-assign]
        with pytest.raises(Unavailable):
            await node.unsubscribe(opened.conn_id, ["a"])
        assert (list(connection.channels), client.delivered["a"]) == (["a"], [1])
        await node.close()

    asyncio.run(life())


def test_a_connection_whose_channels_cannot_be_restored_is_unknown(redis: RedisServer) -> None:
    """A channel that its shard has forgotten, and that cannot be joined again, does not vanish from it silently."""

    async def life() -> None:
        before, after = node_of(redis, 1), node_of(redis, 1)
        await before.start()
        await after.start()
        opened = await connect(before, "ann", "a", "b")
        redis.cli("HDEL", f"{prefixes(1)[0]}kc:{opened.conn_id}", "a")
        join = after._engine.join

        async def refused(*_: Any) -> dict[str, int]:
            raise Unavailable("Not now.")

        after._engine.join = refused  # type: ignore[method-assign]
        with pytest.raises(Unavailable):
            await after.take_over(opened.conn_id)
        after._engine.join = join  # type: ignore[method-assign]
        assert await after.take_over(opened.conn_id) is None
        await before.close()
        await after.close()

    asyncio.run(life())


def test_a_restored_registration_keeps_its_read_range(redis: RedisServer) -> None:
    """From where a connection may read does not move when it is restored, nor when it then goes to another node."""

    async def life() -> None:
        before, after = node_of(redis, 1), node_of(redis, 1)
        await before.start()
        await after.start()
        named = str(await before.head())
        opened = await connect(before, "ann", "a", since=named)
        await before.subscribe(opened.conn_id, {"b": {}})
        here = before.connection(opened.conn_id)
        assert here is not None
        reaches = here.channels | {PRIVATE: here.private}
        await publish([before], "a", "", Random(0))
        prefix = prefixes(1)[0]
        redis.cli("DEL", f"{prefix}kc:{opened.conn_id}")
        redis.cli("HDEL", f"{prefix}k:{opened.conn_id}", "seq")
        await before._engine.cluster.confirm_ownership(opened.conn_id)
        there = await after.take_over(opened.conn_id)
        assert there is not None
        assert there.channels | {PRIVATE: there.private} == reaches
        await before.close()
        await after.close()

    asyncio.run(life())


def test_a_channel_without_proof_after_a_move_is_lost(redis: RedisServer) -> None:
    """The log of a channel that was forgotten and joined again does not prove what was missed meanwhile."""

    async def life() -> None:
        before, after = node_of(redis, 1), node_of(redis, 1)
        await before.start()
        await after.start()
        opened = await connect(before, "ann", "a", "b")
        position = str(await before.head())
        redis.cli("HDEL", f"{prefixes(1)[0]}kc:{opened.conn_id}", "a")
        await publish([before], "b", "", Random(0))
        connection = await after.take_over(opened.conn_id)
        assert connection is not None
        received: list[Any] = []
        client = Client("ann", ["a", "b"], Random(0))
        client.receive = received.extend  # type: ignore[method-assign]
        Attachment(after, connection, Stream(client)).start(position)
        await soon(lambda: bool(received), "the client is sent nothing")
        assert (received[0]["recovered"], received[0]["lost"]) == (["", "b"], ["a"])
        await before.close()
        await after.close()

    asyncio.run(life())


def name_in(shard: int, letter: str) -> str:
    """Return a name that a log of three shards has in one of them."""
    return next(name for name in (f"{letter}{number}" for number in range(100)) if shard_of(name, 3) == shard)


def shards_of(node: Node) -> list[Any]:
    return list(node._engine._shards)  # type: ignore[attr-defined]


@pytest.mark.parametrize("shards", [1, 3])
def test_concurrent_calls_about_one_connection_at_two_nodes_agree(redis: RedisServer, shards: int) -> None:
    """Concurrent calls at both nodes fail only with a reason, and the registrations agree with the members."""

    async def life() -> None:
        random = Random(shards)
        nodes = [node_of(redis, shards) for _ in range(2)]
        for node in nodes:
            await node.start()

        async def call(number: int) -> None:
            node, conn_id = random.choice(nodes), f"c{number % 3}"
            channels: dict[str, dict[str, Any]] = {name: {} for name in random.sample(CHANNELS[:3], 2)}
            calls = [
                lambda: node.connect(conn_id, "ann", V07, channels, NO_UPDATE),
                lambda: node.connect(conn_id, "ann", V07, channels, NO_UPDATE),
                lambda: node.subscribe(conn_id, channels),
                lambda: node.unsubscribe(conn_id, list(channels)),
                lambda: node.end(conn_id, CloseCode.NORMAL, "ended"),
                lambda: node.take_over(conn_id),
            ]
            with suppress(ChannelstreamError):
                await random.choice(calls)()  # type: ignore[no-untyped-call]

        for _ in range(25):
            await asyncio.gather(*map(call, range(12)))
            assert not any(len(node.local.locks) for node in nodes)
            held = [each for node in nodes for each in node.hub.connections.values()]
            assert len({each.id for each in held}) == len(held)
            counted = {each.name: each.users for each in await nodes[0].directory.channels(None)}
            for name, users in counted.items():
                assert users.get("ann", 0) == sum(name in each.channels for each in held), name
            for user in await nodes[0].directory.users(["ann"]):
                assert user.connections == len(held)
        for node in nodes:
            await node.close()

    asyncio.run(life())
