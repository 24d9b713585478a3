"""The memory engine: one process, no other service. The event loop is the lock: no method awaits anything.

What it promises: order, positions and history as long as the process lives. A restart loses everything; the epoch
changes with it, so that every client that comes back with a position is told which channels are `lost`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import islice
from typing import Any

from channelstream.core.channel import Channel
from channelstream.core.events import Event, Message
from channelstream.core.log import Entry, Log
from channelstream.core.position import Position
from channelstream.core.registry import Registry
from channelstream.core.user import StateValue, User
from channelstream.engines.base import (
    PRIVATE,
    Accepted,
    Clock,
    Member,
    Receiver,
    Replay,
    UserChange,
    UserUpdate,
)


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long what nobody uses is kept, in seconds; 0 keeps it for ever."""

    users_s: float = 86_400.0
    channels_s: float = 259_200.0


class MemoryEngine:
    """Everything in this process; see the module's sentence for what that means."""

    name = "memory"

    def __init__(self, registry: Registry, clock: Clock, epoch: str, lifetimes: Lifetimes) -> None:
        """Create an engine.

        Args:
            epoch: text that no earlier run of this engine had, without a hyphen at its end.
        """
        self.registry = registry
        self._clock = clock
        self._epoch = epoch
        self._seq = 0
        self._lifetimes = lifetimes
        self._receiver: Receiver

    @property
    def position(self) -> Position:
        return Position(self._epoch, self._seq)

    async def start(self, receiver: Receiver) -> None:
        self._receiver = receiver

    async def close(self) -> None:
        """Nothing to do: nothing outlives the process."""

    # -- the log

    async def publish(self, events: Sequence[Event]) -> list[Accepted]:
        return [self._publish(event) for event in events]

    def _publish(self, event: Event) -> Accepted:
        known = self.registry.known_message(event)
        if known is not None and isinstance(event, Message):
            return Accepted(known.event, repeated=True, found=True)
        self._accept(event)
        return Accepted(event, repeated=False, found=known is not None)

    def _accept(self, event: Event) -> None:
        self._seq += 1
        entry = Entry(self._seq, f"{self._epoch}-{self._seq}", self._clock.steady(), event)
        self.registry.record(entry, self._clock.wall())
        self._receiver.deliver(entry)

    def _accept_all(self, events: list[Event]) -> None:
        for event in events:
            self._accept(event)

    async def replay(self, user: str, starts: Mapping[str, int], limit: int) -> Replay:
        now_s = self._clock.steady()
        found: list[list[Entry]] = []
        lost = set()
        for name, start in starts.items():
            log = self._log(user, name)
            entries = log.since(start, now_s) if log else []
            if log is None or start < log.floor:
                lost.add(name)
            elif entries:
                found.append(entries)
        # One more than asked for tells whether any is left, and up to where these are all there are.
        entries = list(islice(merge(*found, key=_seq), limit + 1))
        upto = self._seq if len(entries) <= limit else entries[limit].seq - 1
        return Replay(entries[:limit], frozenset(lost), upto, self._seq)

    def _log(self, user: str, name: str) -> Log | None:
        holder: Channel | User | None
        holder = self.registry.users.get(user) if name == PRIVATE else self.registry.channels.get(name)
        return holder.log if holder else None

    # -- connections

    async def connect(self, member: Member, update: UserUpdate) -> UserChange:
        fresh = {} if member.user in self.registry.users else update.fresh
        self.registry.check_state(member.user, fresh, update.values)
        user = self.registry.open_user(member.user, update.fresh, self._seq, self._clock.wall())
        self.registry.connect(user)
        return self._update(user, update)

    async def disconnect(self, member: Member, channels: Sequence[str]) -> None:
        await self.leave(member, channels)
        self.registry.disconnect(self.registry.users[member.user], self._clock.wall())

    async def join(self, member: Member, channels: Mapping[str, Mapping[str, Any]]) -> None:
        now_s = self._clock.wall()
        user = self.registry.users[member.user]
        for name, patch in channels.items():
            channel = self.registry.open_channel(name, patch, self._seq, now_s)
            self._accept_all(self.registry.join(channel, user, member.dialect, now_s))

    async def leave(self, member: Member, channels: Sequence[str]) -> None:
        now_s = self._clock.wall()
        user = self.registry.users[member.user]
        for name in channels:
            self._accept_all(self.registry.part(self.registry.channels[name], user, member.dialect, now_s))

    # -- settings and state

    async def configure(self, patches: Mapping[str, Mapping[str, Any]]) -> None:
        for name, patch in patches.items():
            self.registry.configure(name, patch, self._seq, self._clock.wall())

    async def update_user(self, name: str, update: UserUpdate) -> UserChange | None:
        user = self.registry.users.get(name)
        if user is None:
            return None
        self.registry.check_state(name, update.values)
        self.registry.touch_user(user, self._clock.wall())
        return self._update(user, update)

    def _update(self, user: User, update: UserUpdate) -> UserChange:
        keys = user.public_keys if update.public_keys is None else update.public_keys
        user.publish_keys((*keys, *update.add_public))
        changed: list[tuple[str, StateValue]] = user.update_state(update.values)
        self._accept_all(self.registry.state_events(user, changed, self._clock.wall()))
        return UserChange(user, changed)

    async def channels(self, names: Sequence[str] | None) -> list[Channel]:
        known = self.registry.channels
        return list(known.values()) if names is None else [known[name] for name in names if name in known]

    async def users(self, names: Sequence[str] | None) -> list[User]:
        known = self.registry.users
        return list(known.values()) if names is None else [known[name] for name in names if name in known]

    async def collect(self) -> None:
        self.registry.budget.sweep(self._clock.steady())
        self.registry.collect(self._clock.wall(), self._lifetimes.users_s, self._lifetimes.channels_s)


def _seq(entry: Entry) -> int:
    return entry.seq
