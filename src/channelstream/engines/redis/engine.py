"""The engine on Redis: its parts, and which of them each method calls.

What it promises is in docs/engines.md. Each shard is atomic by itself: one script accepts an event, assigns its offset and
publishes it. Nothing is atomic over two shards, and no order exists between them. A transaction over shards would need
locks that survive the death of a node, and would make every call as unavailable as the worst shard. So a method over
several shards is written to be repeated: those of the log as `sharded_log.py` says; `connect`, `join`, `leave`,
`disconnect` and `claim` leave registrations behind when they fail (`connections.py`).

A shard that is out of reach fails only the calls that need it.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from channelstream.core.accepted import Accepted
from channelstream.core.channel import Channel
from channelstream.core.events import Event
from channelstream.core.log import Replay
from channelstream.core.position import Position
from channelstream.core.registry_limits import Lifetimes, RegistryLimits
from channelstream.core.user import User, UserChange, UserUpdate
from channelstream.engines.base import (
    NO_CHANNELS,
    Clock,
    Counts,
    MembersAt,
    Receiver,
    Registered,
)
from channelstream.engines.members import Leaving, Member, RestoredConnection
from channelstream.engines.movable import OTHER_ENGINE
from channelstream.engines.outbox import OutboxSettings
from channelstream.engines.redis import codec, moving
from channelstream.engines.redis.address import ShardAddress
from channelstream.engines.redis.claims import Claims
from channelstream.engines.redis.cluster import RedisCluster
from channelstream.engines.redis.connections import Connections
from channelstream.engines.redis.delivery import Delivery
from channelstream.engines.redis.lease_manager import LeaseManager
from channelstream.engines.redis.links import Links
from channelstream.engines.redis.outbox import RedisOutbox, packed_settings
from channelstream.engines.redis.ownership import Ownership
from channelstream.engines.redis.registrar import Registrar
from channelstream.engines.redis.restoring import Restoring
from channelstream.engines.redis.shard import Shard
from channelstream.engines.redis.shard_state import NodeContext, RedisSettings, ShardState, shard_label
from channelstream.engines.redis.sharded_log import ShardedLog
from channelstream.engines.redis.sharded_reads import ShardedReads
from channelstream.engines.redis.shards import Shards, gather_all, results_and_errors
from channelstream.engines.redis.time_series import RedisTimeSeries
from channelstream.errors import CannotHandOver, Moved, Unavailable

COLLECT_AT_ONCE = 100
LEAVING_AT_ONCE = 64
"""Connections that are unregistered concurrently."""

OTHER_LOG = (
    "Redis has another log than the one of the running server: restart the service if the option engine has changed,"
    " else try again"
)
"""Why a node does not go on in another process: its clients have positions in the former log."""

logger = logging.getLogger(__name__)


class RedisEngine:
    """One node of the log that all nodes share."""

    name = "redis"
    can_fail = True
    connects_at_once = False

    def __init__(
        self,
        addresses: Sequence[ShardAddress],
        limits: RegistryLimits,
        lifetimes: Lifetimes,
        new_id: Callable[[], str],
        new_epoch: Callable[[], str],
        label: str,
        settings: RedisSettings,
        clock: Clock | None = None,
        outbox: OutboxSettings = OutboxSettings(),  # noqa: B008 - it is immutable
    ) -> None:
        """Create an engine that is not connected.

        Args:
            addresses: one for each shard of the log.
            new_id: makes the node's name, and tokens.
            label: the machine and the process, for people.
            clock: for the ages of entries; None means the clock of Redis, which all nodes share.
            outbox: what the outbox keeps.
        """
        self._lifetimes = lifetimes
        self._bounds = codec.write_bounds(limits)
        self._is_taken_over = False
        facts = packed_settings(outbox)
        node = self._node = NodeContext(
            new_id(), label, len(addresses), settings, new_id, new_epoch, clock, facts
        )
        states = [ShardState(index, shard_label(index, len(addresses))) for index in range(len(addresses))]
        ownership = self._ownership = Ownership(len(states))
        self._delivery = Delivery(states, ownership.forget)
        shards = [
            Shard(address, node, state, self._delivery)
            for address, state in zip(addresses, states, strict=True)
        ]
        self._shards = Shards(shards, self._delivery)
        self._log = ShardedLog(self._shards, self._delivery)
        self._reads = ShardedReads(self._shards, self._log, self._delivery)
        registrar = Registrar(self._shards, ownership, node, self._delivery)
        restoring = Restoring(self._shards, registrar, self._bounds)
        self._connections = Connections(self._shards, registrar, self._bounds)
        self.cluster = RedisCluster(self._shards, registrar, Claims(self._shards, registrar), restoring)
        self.time_series = RedisTimeSeries(shards[0].client, node)
        self.outbox = RedisOutbox(self._shards, node, outbox)
        lease_managers = [
            LeaseManager(registrar, restoring, shard, settings.lease_s) for shard in self._shards
        ]
        self._links = Links(self._shards, restoring, lease_managers)

    @property
    def position(self) -> Position:
        return Position(self._shards.epochs, self._shards.offsets)

    @property
    def is_reachable(self) -> bool:
        """Whether this node is linked with every shard; heartbeats find a link that is silent."""
        return all(shard.link.is_reachable for shard in self._shards)

    @property
    def is_partly_reachable(self) -> bool:
        return any(shard.link.is_reachable for shard in self._shards)

    @property
    def log_bytes(self) -> None:
        return None

    async def head(self, names: Iterable[str] | None = None, all_shards: bool = False) -> Position:
        return await self._log.head(names, all_shards)

    # -- life

    async def start(self, receiver: Receiver) -> None:
        self._delivery.receiver = receiver
        known = self._shards.epochs
        await self._links.open(after_gap=self._is_taken_over)
        if self._is_taken_over and self._shards.epochs != known:
            await self._links.close()
            raise CannotHandOver(OTHER_LOG)

    async def close(self) -> None:
        await gather_all(shard.client.stop_node() for shard in self._shards)
        await self._links.close()

    # -- the move to another process

    @property
    def is_settled(self) -> bool:
        return True

    async def copy(self) -> AsyncIterator[bytes]:
        """Yield nothing: Redis has the logs."""
        return
        yield b""

    async def hand_over(self) -> AsyncIterator[bytes]:
        """Close the links: from then on the node is where the links are opened again."""
        try:
            await gather_all(shard.stop_answering() for shard in self._shards)
        finally:
            # Also if it is cancelled: `proceed` opens them again, and a link that receives no commands would stay so.
            await self._links.close()
        yield moving.record_of(self._node, self._shards, self._ownership)

    async def proceed(self) -> None:
        await self._links.reopen()

    def receive(self, record: bytes) -> None:
        moving.take_over(record, self._node, self._shards, self._ownership)
        self._is_taken_over = True

    def build(self, left: Sequence[Leaving], connections: Sequence[RestoredConnection]) -> None:
        """Do nothing: Redis has the connections."""

    def take_over(self) -> None:
        if not self._is_taken_over:
            raise CannotHandOver(OTHER_ENGINE)
        self._delivery.may_execute.clear()

    def begin(self) -> None:
        self._delivery.may_execute.set()

    # -- the log

    async def publish(self, events: Sequence[Event]) -> list[Accepted]:
        return await self._log.publish(events)

    def publish_at_once(self, event: Event) -> None:
        """Return None: it takes a call of Redis."""

    def divide(self, event: Event) -> AsyncIterator[Event]:
        return self._log.divide(event)

    async def replay(self, user: str, from_offsets: Mapping[str, int], limit: int) -> Replay:
        return await self._log.replay(user, from_offsets, limit)

    def nothing_after(self, user: str, from_offsets: Mapping[str, int], *, strict: bool) -> None:
        """Return None: Redis has the logs."""

    async def catch_up(self, shards: Iterable[int]) -> None:
        await self._log.catch_up(shards)

    # -- connections

    async def connect(
        self,
        member: Member,
        update: UserUpdate,
        channels: Mapping[str, Mapping[str, Any]] = NO_CHANNELS,
        since: Position | None = None,
    ) -> Registered | None:
        return await self._connections.connect(member, update, channels, since)

    def connect_at_once(self, *_: Any) -> None:
        """Return None: Redis has the connections."""

    async def restored_connections(self) -> Sequence[RestoredConnection]:
        """Return none: a node that starts is a new one, and the connections of a dead node end with its lease."""
        return ()

    async def disconnect(self, member: Member, channels: Sequence[str]) -> None:
        await self._connections.disconnect(member, channels)

    async def disconnect_all(self, leaving: Sequence[Leaving]) -> None:
        """Unregister them in batches, one packet each. Each connection is one script, so users leave in separate events."""
        failures = list[Unavailable]()
        for begin in range(0, len(leaving), LEAVING_AT_ONCE):
            batch = leaving[begin : begin + LEAVING_AT_ONCE]
            calls = (self._connections.disconnect(each.member, each.channels) for each in batch)
            failures += _unavailable(
                results_and_errors(await asyncio.gather(*calls, return_exceptions=True))[1]
            )
        if failures:
            raise failures.pop()

    async def join(
        self, member: Member, channels: Mapping[str, Mapping[str, Any]], since: Position | None = None
    ) -> dict[str, int]:
        return await self._connections.join(member, channels, since) if channels else {}

    async def leave(self, member: Member, channels: Sequence[str]) -> None:
        await self._connections.leave(member, channels)

    # -- settings and state

    async def configure(self, patches: Mapping[str, Mapping[str, Any]]) -> None:
        await gather_all(
            shard.client.call_for_each(
                "configure", "channels", [(name, dict(patches[name])) for name in names], bounds=self._bounds
            )
            for shard, names in self._shards.split(patches).items()
        )

    async def update_user(self, name: str, update: UserUpdate) -> UserChange | None:
        home = self._shards.at(name)
        arguments = {"user": name, "update": codec.write_update(update), "bounds": self._bounds}
        answer = await home.client.call("update_user", **arguments)
        return None if answer is None else await self._shards.propagate(home, answer)

    async def channels(self, names: Sequence[str] | None, with_users: bool = True) -> list[Channel]:
        return await self._reads.channels(names, with_users)

    async def channels_at(
        self, names: Sequence[str], with_users: bool = True
    ) -> tuple[list[Channel], Position]:
        return await self._reads.channels_at(names, with_users)

    def channels_at_once(self, names: Sequence[str]) -> None:
        """Return None: Redis has the channels."""

    async def users(self, names: Sequence[str] | None, with_channels: bool = True) -> list[User]:
        return await self._reads.users(names, with_channels)

    async def counts(self) -> Counts:
        return await self._reads.counts()

    async def members_at(self, channel: str) -> MembersAt:
        return await self._reads.members_at(channel)

    async def states(self, members: Mapping[str, str]) -> list[User]:
        return await self._reads.states(members)

    # -- ageing

    async def collect(self) -> None:
        await gather_all(map(self._collect, self._shards))

    async def _collect(self, shard: Shard) -> None:
        await shard.subscriber.unsubscribe_unused()
        after = (("u", self._lifetimes.users_s), ("c", self._lifetimes.channels_s))
        rules = [(kind, seconds * 1000) for kind, seconds in after if seconds]
        while await shard.client.call("collect", rules=rules, count=COLLECT_AT_ONCE):
            pass


def _unavailable(failures: Iterable[BaseException]) -> Iterator[Unavailable]:
    """Yield the failures of shards that are out of reach, and log bugs: one must not keep other connections in channels."""
    for failure in failures:
        if isinstance(failure, Unavailable):
            yield failure
        elif not isinstance(failure, Exception):
            raise failure
        elif not isinstance(failure, Moved):
            logger.error("a connection could not be unregistered", exc_info=failure)
