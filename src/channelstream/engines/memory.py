"""The memory engine: one process and no service.

It keeps order, positions and history as long as the process lives. A restart loses everything and begins a new epoch, so a
client that returns with a position is sent which channels are `lost`.

The event loop is the lock: most methods await nothing, so they are atomic. The exceptions work in several short
turns: joining, leaving and configuring very many channels, announcing a state to them, reading their logs, disconnecting and
`collect`.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping, Sequence
from typing import Any

from channelstream.core.accepted import Accepted
from channelstream.core.channel import Channel
from channelstream.core.events import Event
from channelstream.core.log import Replay
from channelstream.core.position import Offsets, Position
from channelstream.core.registry import Registry
from channelstream.core.registry_limits import Lifetimes
from channelstream.core.user import User, UserChange, UserUpdate
from channelstream.engines.base import (
    NO_CHANNELS,
    Clock,
    Counts,
    MembersAt,
    Receiver,
    Registered,
)
from channelstream.engines.cluster import SingleNode
from channelstream.engines.local_log import LocalLog
from channelstream.engines.local_move import LocalMove
from channelstream.engines.local_outbox import LocalOutbox
from channelstream.engines.local_reads import LocalReads
from channelstream.engines.members import Leaving, Member, RestoredConnection
from channelstream.engines.moved_state import OUTBOX, SERIES, records
from channelstream.engines.outbox import OutboxSettings
from channelstream.engines.time_series import LocalTimeSeries
from channelstream.shielded import to_its_end
from channelstream.slices import Slices, turn_for


class MemoryEngine:
    """An engine that keeps everything in this process."""

    name = "memory"
    can_fail = False
    connects_at_once = True

    def __init__(
        self,
        registry: Registry,
        clock: Clock,
        epoch: str,
        lifetimes: Lifetimes,
        outbox: OutboxSettings = OutboxSettings(),  # noqa: B008 - it is immutable
    ) -> None:
        """Create an engine.

        Args:
            epoch: text that no earlier run had, without a hyphen at its end.
            outbox: what the outbox keeps.
        """
        self.registry = registry
        self.cluster = SingleNode()
        self.time_series = LocalTimeSeries()
        self.outbox = LocalOutbox(outbox)
        self._wanted = outbox.wanted
        self._clock = clock
        self._lifetimes = lifetimes
        self._log: LocalLog
        self._reads: LocalReads
        self._begin_at(Position.single(epoch, 0))
        self._move = LocalMove(registry, clock)
        self._receiver: Receiver

    def _begin_at(self, begin: Position) -> None:
        self._log = LocalLog(self.registry, self._clock, begin, self._lifetimes, self._accept)
        self._reads = LocalReads(self._log, self._clock)

    def _accept(self, event: Event) -> None:
        entry = self._log.assign(event)
        self._log.commit(entry)
        self._receiver.deliver(entry)

    @property
    def position(self) -> Position:
        return self._log.position

    @property
    def is_reachable(self) -> bool:
        return True

    @property
    def is_partly_reachable(self) -> bool:
        return True

    @property
    def log_bytes(self) -> int:
        return self.registry.budget.used_bytes

    async def head(self, names: Iterable[str] | None = None, all_shards: bool = False) -> Position:
        return self.position

    async def start(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self.registry.make_facts(self._wanted, self.outbox.keep)

    async def close(self) -> None:
        """Do nothing: nothing outlives the process."""

    async def publish(self, events: Sequence[Event]) -> list[Accepted]:
        return self._log.publish(events)

    def publish_at_once(self, event: Event) -> Accepted:
        return self._log.publish_one(event)

    def divide(self, event: Event) -> AsyncIterator[Event]:
        return self._log.divide(event)

    def replay(self, user: str, from_offsets: Mapping[str, int], limit: int) -> Coroutine[None, None, Replay]:
        return self._reads.replay(user, from_offsets, limit)

    def nothing_after(self, user: str, from_offsets: Mapping[str, int], *, strict: bool) -> Offsets | None:
        return self._reads.nothing_after(user, from_offsets, strict=strict)

    async def catch_up(self, shards: Iterable[int]) -> None:
        """Do nothing: an event is delivered when it is accepted."""

    async def connect(
        self,
        member: Member,
        update: UserUpdate,
        channels: Mapping[str, Mapping[str, Any]] = NO_CHANNELS,
        since: Position | None = None,
    ) -> Registered | None:
        if member.user in self._log.announcements.waiting:
            await self._announced(member.user)
        change = self._log.connect(member, update)
        try:
            if member.user in self._log.announcements.waiting:
                await self._announce(member.user)
            joined = await self.join(member, channels, since) if channels else {}
        except BaseException:
            # Cancelled, or a bug: the caller does not unregister it. The change of the state stays.
            self._log.undo_connect(member)
            raise
        return Registered(change.user, change.offsets, joined)

    def connect_at_once(
        self,
        member: Member,
        update: UserUpdate,
        channels: Mapping[str, Mapping[str, Any]] = NO_CHANNELS,
        since: Position | None = None,
    ) -> Registered | None:
        return self._log.connect_at_once(member, update, channels)

    async def restored_connections(self) -> Sequence[RestoredConnection]:
        return ()

    async def disconnect(self, member: Member, channels: Sequence[str]) -> None:
        await to_its_end(self.disconnect_all([Leaving(member, channels)]))

    async def disconnect_all(self, leaving: Sequence[Leaving]) -> None:
        waiting = deque(leaving)
        while waiting:
            await self._announced(waiting[0].member.user)
            self._log.disconnect_next(waiting)
            await asyncio.sleep(0)

    async def join(
        self, member: Member, channels: Mapping[str, Mapping[str, Any]], since: Position | None = None
    ) -> dict[str, int]:
        await turn_for(len(channels))
        waiting, joined = deque(channels.items()), dict[str, int]()
        try:
            while waiting:
                if member.user in self._log.announcements.waiting:
                    await self._announced(member.user)
                self._log.join_next(member, waiting, joined)
                if waiting:
                    await asyncio.sleep(0)
            await turn_for(len(joined))
        except BaseException:  # Cancelled, or a bug: the call has failed, so nothing stays joined.
            self._log.leave(member, joined)
            raise
        return joined

    async def leave(self, member: Member, channels: Sequence[str]) -> None:
        await turn_for(len(channels))
        waiting, left = deque(channels), list[str]()
        try:
            while waiting:
                await self._announced(member.user)
                self._log.leave_next(member, waiting, left)
                if waiting:
                    await asyncio.sleep(0)
            await turn_for(len(left))
        except BaseException:
            self._log.join(member, {name: {} for name in left})
            raise

    async def configure(self, patches: Mapping[str, Mapping[str, Any]]) -> None:
        slices = Slices(self._clock.steady)
        for name, patch in patches.items():
            self._log.configure({name: patch})
            await slices.due()
        await self._log.free_cut()

    async def update_user(self, name: str, update: UserUpdate) -> UserChange | None:
        await self._announced(name)
        change = self._log.update_user(name, update)
        await self._announce(name)
        return change

    async def _announced(self, user: str) -> None:
        """Wait until the last change of a user's state is announced: what follows would announce the rest in one turn."""
        if self._log.announcements.next(user):
            await self._log.announcements.rest_in_turns(user)

    async def _announce(self, user: str) -> None:
        """Announce a changed state, also if the caller is cancelled meanwhile."""
        if self._log.announcements.next(user):
            await to_its_end(self._log.announcements.rest_in_turns(user))

    async def channels(self, names: Sequence[str] | None, with_users: bool = True) -> list[Channel]:
        return self._reads.channels(names)

    async def channels_at(
        self, names: Sequence[str], with_users: bool = True
    ) -> tuple[list[Channel], Position]:
        return self.channels_at_once(names)

    def channels_at_once(self, names: Sequence[str]) -> tuple[list[Channel], Position]:
        return self._reads.channels(names), self._log.position

    async def users(self, names: Sequence[str] | None, with_channels: bool = True) -> list[User]:
        return self._reads.users(names)

    async def counts(self) -> Counts:
        return self._reads.counts

    async def states(self, members: Mapping[str, str]) -> list[User]:
        return self._reads.users(list(members))

    async def members_at(self, channel: str) -> MembersAt:
        return self._reads.members_at(channel)

    async def collect(self) -> None:
        await self._log.sweep()
        await self._log.collect()

    # -- the move to another process

    @property
    def is_settled(self) -> bool:
        return not self._log.announcements.waiting

    def copy(self) -> AsyncIterator[bytes]:
        return self._move.copy(self._log)

    async def hand_over(self) -> AsyncIterator[bytes]:
        for record in (*records(SERIES, self.time_series.rows()), *records(OUTBOX, self.outbox.rows())):
            yield record
        async for record in self._move.rest(self._log):
            yield record

    async def proceed(self) -> None:
        self._move.forget()

    def receive(self, record: bytes) -> None:
        if not self._move.is_expected:
            self._move.expect()
        self._move.receive(record)

    def build(self, left: Sequence[Leaving], connections: Sequence[RestoredConnection]) -> None:
        self._move.build(left, connections)

    def take_over(self) -> None:
        taken = self._move.finish()
        self.time_series.restore(taken.series)
        if self._wanted:
            self.outbox.restore(taken.outbox)
        self._begin_at(Position.single(taken.epoch, taken.offset))

    def begin(self) -> None:
        """Do nothing: there are no other nodes."""
