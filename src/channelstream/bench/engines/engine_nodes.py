"""A node's engine without HTTP and streams, in this process, for measurements with very many connections."""

import asyncio
from collections.abc import AsyncIterator, Collection, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from channelstream.bench.engines.stores import Store
from channelstream.clock import new_epoch
from channelstream.core.entry import Entry
from channelstream.core.node_status import NodeStatus
from channelstream.core.position import Offsets
from channelstream.core.registry_limits import Lifetimes, RegistryLimits
from channelstream.core.user import UserUpdate
from channelstream.engines.members import Member, Membership
from channelstream.engines.redis.address import shard_addresses
from channelstream.engines.redis.engine import RedisEngine
from channelstream.engines.redis.shard_state import RedisSettings
from channelstream.wire.channelstream import V07

AT_ONCE = 200
"""Concurrent calls."""
PATIENT = RedisSettings(timeout_s=60.0, lease_s=60.0)
"""Long timeouts, for the registration of very many connections."""
LONG = Lifetimes()
"""Lifetimes longer than a run."""
_NOTHING = UserUpdate({}, {})


@dataclass(slots=True)
class Receiver:
    """The receiver of the engine: it has connections, and counts events.

    Attributes:
        channels: the channel of each connection.
        joined: channels of connections that are in several.
        received: number of events.
    """

    members: dict[str, Member] = field(default_factory=dict)
    channels: dict[str, str] = field(default_factory=dict)
    joined: dict[str, Sequence[str]] = field(default_factory=dict)
    received: int = 0

    def deliver(self, entry: Entry) -> None:
        self.received += 1

    def advance(self, offsets: Offsets) -> None:
        """Do nothing."""

    def lost(self, channels: Collection[str], users: Collection[str]) -> None:
        """Do nothing."""

    def log_replaced(self, shard: int, offsets: Offsets) -> None:
        """Do nothing."""

    def taken_over(self, conn_id: str) -> None:
        """Do nothing."""

    def node_died(self, node: NodeStatus, ended: int | None) -> None:
        """Do nothing."""

    def local_connections(self) -> Collection[str]:
        return self.members.keys()

    def has_channel(self, name: str) -> bool:
        return True

    def has_user(self, name: str) -> bool:
        return True

    def membership(self, conn_id: str) -> Membership | None:
        member = self.members.get(conn_id)
        channel = self.channels.get(conn_id)
        names = self.joined.get(conn_id) or ([] if channel is None else [channel])
        return None if member is None else Membership(member, dict.fromkeys(names))

    async def execute(self, command: bytes) -> bytes:
        return command


@dataclass(frozen=True, slots=True)
class EngineNode:
    """An engine and the receiver of its events."""

    engine: RedisEngine
    receiver: Receiver

    async def register(self, names: Sequence[str]) -> list[Member]:
        """Register a user with a connection for each name."""
        members = [Member(f"id-{name}", name, V07) for name in names]
        self.receiver.members |= {member.conn_id: member for member in members}
        await run_in_batches([self.engine.connect(member, _NOTHING) for member in members])
        return members

    async def join(self, members: Sequence[Member], channel: str, settings: Mapping[str, Any]) -> None:
        """Join a channel with connections. The channel is created with these settings."""
        self.receiver.channels |= {member.conn_id: channel for member in members}
        await run_in_batches([self.engine.join(member, {channel: settings}) for member in members])

    async def disconnect(self, members: Sequence[Member]) -> None:
        for member in members:
            del self.receiver.members[member.conn_id]
        await run_in_batches(
            [self.engine.disconnect(member, [self.receiver.channels[member.conn_id]]) for member in members]
        )


async def run_in_batches(work: Sequence[Coroutine[Any, Any, Any]]) -> None:
    """Await all coroutines, `AT_ONCE` at a time."""
    for start in range(0, len(work), AT_ONCE):
        await asyncio.gather(*work[start : start + AT_ONCE])


@asynccontextmanager
async def engine_node(
    store: Store, settings: RedisSettings = PATIENT, lifetimes: Lifetimes = LONG
) -> AsyncIterator[EngineNode]:
    """Start an engine that is connected to a store."""
    engine = RedisEngine(
        shard_addresses(store.address),
        RegistryLimits(),
        lifetimes,
        lambda: str(uuid4()),
        new_epoch,
        "bench",
        settings,
    )
    node = EngineNode(engine, Receiver())
    engine.cluster.serve(node.receiver)
    await engine.start(node.receiver)
    try:
        yield node
    finally:
        await engine.close()
