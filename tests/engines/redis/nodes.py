"""Nodes on one Redis, as the tests of its engine need them."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import uuid4

import msgspec
from tests.engines.conformance import EMPTY, Recorder, message
from tests.waiting import PATIENCE_S, soon

from channelstream.clock import new_epoch
from channelstream.core.client_protocol import ClientProtocol
from channelstream.core.entry import Entry
from channelstream.core.events import Event, Message
from channelstream.core.position import shard_of
from channelstream.core.registry_limits import Lifetimes, RegistryLimits
from channelstream.core.user import UserUpdate
from channelstream.engines.members import Member
from channelstream.engines.outbox import OutboxSettings
from channelstream.engines.redis.address import ShardAddress, prefixes, shard_addresses
from channelstream.engines.redis.engine import RedisEngine
from channelstream.engines.redis.link import Link
from channelstream.engines.redis.shard_client import AGAIN
from channelstream.engines.redis.shard_state import RedisSettings
from channelstream.errors import Unavailable
from channelstream.wire.channelstream import V07

[PREFIX] = prefixes(1)


def in_shards(address: str, shards: int) -> list[ShardAddress]:
    """Return the places of a log of so many shards, all in one Redis."""
    [place] = shard_addresses(address)
    return [replace(place, prefix=prefix) for prefix in prefixes(shards)]


SHORT_S = 2.0
"""How long a node waits for Redis where a test makes it wait in vain."""


class Nodes:
    """Several engines on one Redis, in one loop; each has its recorder.

    Attributes:
        outbox: what the next ones keep in it.
        limits: the bounds of the next ones.
    """

    def __init__(
        self, where: list[ShardAddress], timeout_s: float = PATIENCE_S, lease_s: float = 1.0
    ) -> None:
        self.shards = len(where)
        self.settings = RedisSettings(timeout_s, lease_s)
        self.outbox = OutboxSettings()
        self.limits = RegistryLimits()
        self._places = where
        self._engines: list[RedisEngine] = []

    def make(self) -> RedisEngine:
        """Make one that is not started."""
        return RedisEngine(
            self._places,
            self.limits,
            Lifetimes(),
            lambda: str(uuid4()),
            new_epoch,
            f"node {len(self._engines)}",
            self.settings,
            outbox=self.outbox,
        )

    async def node(self) -> tuple[RedisEngine, Recorder]:
        """Start one more."""
        engine = self.make()
        recorder = Recorder()
        engine.cluster.serve(recorder)
        await engine.start(recorder)
        self._engines.append(engine)
        return engine, recorder

    async def member(
        self, conn_id: str, *channels: str, protocol: ClientProtocol = V07, **settings: Any
    ) -> tuple[RedisEngine, Recorder]:
        """Start one more that holds a connection, whose user is called like it."""
        engine, recorder = await self.node()
        member = Member(conn_id, conn_id, protocol)
        recorder.members[conn_id] = (member, set(channels))
        assert await engine.connect(member, EMPTY) is not None
        await engine.join(member, dict.fromkeys(channels, settings))
        return engine, recorder

    async def close(self) -> None:
        for engine in self._engines:
            await engine.close()


async def published(engine: RedisEngine, event: Event) -> None:
    """Publish, again while Redis is out of reach, as an application does."""

    async def is_accepted() -> bool:
        try:
            await engine.publish([event])
        except Unavailable:
            return False
        return True

    await soon(is_accepted)


async def counted(engine: RedisEngine, channels: dict[str, dict[str, int]]) -> None:
    """Wait until these channels have these users, each with so many connections."""

    async def are_members() -> bool:
        return {each.name: each.users for each in await engine.channels(list(channels))} == channels

    await soon(are_members)


def cut(engine: RedisEngine) -> None:
    """Break the links of a node with every shard."""
    for shard in engine._shards:
        assert shard.link.present is not None
        shard.link.present.abandon("the test cuts it")


def link_of(engine: RedisEngine) -> Link:
    """Return the link of an engine with its only shard."""
    [shard] = engine._shards
    link = shard.link.present
    assert link is not None
    return link


def sent_calls(engine: RedisEngine) -> int:
    """Return how many calls of a node with one shard wait for their answers."""
    return len(link_of(engine)._calls)


MANY = [f"c{number}" for number in range(250)]
"""More channels than one call leaves."""


async def begin_to_end(engine: RedisEngine, conn_id: str) -> None:
    """Make the first of the calls that end a connection in very many channels, and no other."""
    shard = engine._shards.at(conn_id)
    node = engine.cluster._registrar.node
    assert await shard.client.step("disconnect", conn_id=conn_id, node=node) == AGAIN


async def in_many(engine: RedisEngine, recorder: Recorder, user: str) -> Member:
    member = Member("many", user, V07)
    recorder.members["many"] = (member, set(MANY))
    await engine.connect(member, EMPTY)
    await engine.join(member, {name: {} for name in MANY})
    return member


def channel_in(shard: int, shards: int) -> str:
    return next(name for name in map("c{}".format, range(100)) if shard_of(name, shards) == shard)


def event_of(entry: Entry) -> Event:
    return entry.event


BIG = 300_000

READ_BYTES = 1 << 20
"""Bytes of entries after which one call of the script ends."""


def big(number: int | str, **rest: Any) -> Message:
    return msgspec.structs.replace(message(f"m{number}"), payload=b'"%b"' % (b"x" * BIG), **rest)


async def enter(node: tuple[RedisEngine, Recorder], name: str, channel: str, state: dict[str, Any]) -> None:
    """Have a node hold one more connection, of a user with this state, all of it public."""
    engine, recorder = node
    member = Member(name, name, V07)
    recorder.members[name] = (member, {channel})
    await engine.connect(member, UserUpdate(state, {}, list(state)))
    await engine.join(member, {channel: {}})


def replaced_for(event: Event, *users: str) -> Event:
    return msgspec.structs.replace(event, only=frozenset(users))


def sent_to_scripts(engine: RedisEngine) -> list[int]:
    """Record from now on how many bytes each script receives, and how many it answers."""
    sizes: list[int] = []
    [shard] = engine._shards
    link: Any = shard.link.present
    sent = link._enqueue

    def recorded(parts: Any, reads: bool) -> Any:
        answer = sent(parts, reads)
        if parts[0] == "EVALSHA":
            sizes.append(sum(len(str(part)) for part in parts))
            answer.add_done_callback(lambda done: sizes.append(len(str(done.result()))))
        return answer

    link._enqueue = recorded
    return sizes


def names_in(shard: int, letter: str) -> list[str]:
    """Return names that a log of three shards has in one of them."""
    return [name for name in (f"{letter}{number}" for number in range(100)) if shard_of(name, 3) == shard]


def take_out_of_reach(shard: Any) -> Callable[[], None]:
    """Break the link of a shard and let no other be made; return what ends that."""
    establish = shard.establish

    async def unreachable() -> None:
        raise Unavailable("It is out of reach.")

    def mend() -> None:
        shard.establish = establish

    shard.establish = unreachable
    shard.link.present.abandon("the test cuts it")
    return mend


def hold_back(shard: Any, operation: str, answered: asyncio.Event, let_go: asyncio.Event) -> None:
    """Keep the first answer to an operation until it is released."""
    step = shard.client.step

    async def late(asked: str, **arguments: Any) -> Any:
        answer = await step(asked, **arguments)
        if asked == operation and not answered.is_set():
            answered.set()
            await let_go.wait()
        return answer

    shard.client.step = late


def said(number: int, channel: str | None = "a", **rest: Any) -> Message:
    """A message whose text no other one has."""
    text = b'"secret %03d %b"' % (number, b"." * (20 * number))
    return Message(uuid=f"m{number}", channel=channel, user="ann", payload=text, timestamp="t", **rest)
