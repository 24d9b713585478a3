"""Parts of the product that also record for the checker: members of channels over time, and drops of the budget."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.simulation.failure import Failure

from channelstream.core.budget import Budget
from channelstream.core.channel import Channel
from channelstream.core.connection import Connection
from channelstream.core.entry import Entry
from channelstream.core.hub import Hub
from channelstream.core.log import PRIVATE, Log
from channelstream.core.moment import Moment
from channelstream.core.position import Position, ReadRange
from channelstream.core.registry import Registry
from channelstream.core.registry_limits import RegistryLimits
from channelstream.core.user import User, UserUpdate
from channelstream.engines.base import NO_CHANNELS, Registered
from channelstream.engines.members import Member
from channelstream.engines.memory import MemoryEngine

CALL_S = 1.0
"""How long a call may take at most: for the engine its begin is the time of use, and for the books the use itself."""


@dataclass(slots=True, eq=False)
class Stay:
    """One stay of a connection in a channel, or with its private messages, by the numbers of the log.

    Attributes:
        asked: when the node was asked for it.
        joined: when the engine registered it; None until then.
        named: the offset that the application named; -1 for a position of another log, None for no position.
        left: None while it lasts.
        apart: the position with which older events were sent that its client may not have received; -1 for none.
    """

    asked: int
    joined: int | None = None
    named: int | None = None
    left: int | None = None
    apart: int = -1

    @property
    def bound(self) -> int:
        """The offset after which it may read."""
        return self.asked if self.named is None or self.named < 0 else min(self.asked, self.named)

    @property
    def owed_after(self) -> int | None:
        """The first stream without a position is owed the events after this; None: nothing yet."""
        return self.joined if self.named is None or self.named < 0 else self.named

    def is_unproven(self, start: int) -> bool:
        """Whether it is unknown which events a client that resumes from here missed before it joined."""
        return self.named == -1 and self.joined is not None and start < self.joined


class BookedHub(Hub):
    """The product's hub, which also remembers every stay.

    An application may register an ended connection again under its id: that is another connection, with other stays.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._stays: dict[tuple[Connection, str], list[Stay]] = {}

    def subscribe(self, connection: Connection, channel: str, read_range: ReadRange) -> None:
        self._begin(connection, channel)
        super().subscribe(connection, channel, read_range)

    def unsubscribe(self, connection: Connection, channel: str) -> None:
        self._end(connection, channel)
        super().unsubscribe(connection, channel)

    def add(self, connection: Connection) -> None:
        self._begin(connection, PRIVATE)
        super().add(connection)

    def remove(self, connection: Connection) -> None:
        self._end(connection, PRIVATE)
        super().remove(connection)

    def _begin(self, connection: Connection, channel: str) -> None:
        self._stays.setdefault((connection, channel), []).append(Stay(self.offsets[0]))

    def _end(self, connection: Connection, channel: str) -> None:
        self._stays[connection, channel][-1].left = self.offsets[0]

    def _addressees(self, entry: Entry) -> list[Connection]:
        """Return the receivers of an event, in an order that does not depend on PYTHONHASHSEED: it is that of the writes."""
        return sorted(super()._addressees(entry), key=_conn_id)

    def stays(self, connection: Connection, channel: str) -> list[Stay]:
        """Return the stays of a connection in a channel, in order; of the private messages there is one."""
        return self._stays.get((connection, channel), [])


def _conn_id(connection: Connection) -> str:
    return connection.id


class Booked:
    """An engine that also records each registration, and the position that the application named for it."""

    hub: BookedHub
    position: Position

    def _note(self, member: Member, names: Iterable[str], since: Position | None) -> dict[str, list[Stay]]:
        stays = self._stays(member, names)
        for each in stays.values():
            self._place(each, self.position.offsets[0], since)
        return stays

    def _stays(self, member: Member, names: Iterable[str]) -> dict[str, list[Stay]]:
        connection = self.hub.connections[member.conn_id]
        return {name: self.hub.stays(connection, name)[-1:] for name in names}

    def _place(self, stays: Iterable[Stay], offset: int, since: Position | None) -> None:
        for stay in stays:
            stay.joined = offset
            if since is not None:
                is_here = since.epochs == self.position.epochs and since.offsets[0] <= offset
                stay.named = since.offsets[0] if is_here else -1

    def _place_all(
        self, stays: dict[str, list[Stay]], registered: Registered | None, since: Position | None
    ) -> None:
        if registered is not None:
            for name, offset in {PRIVATE: registered.offsets[0], **registered.joined}.items():
                self._place(stays[name], offset, since)


class BookedEngine(Booked, MemoryEngine):
    """The memory engine, booked: it registers at once."""

    def connect_at_once(
        self,
        member: Member,
        update: UserUpdate,
        channels: Mapping[str, Mapping[str, Any]] = NO_CHANNELS,
        since: Position | None = None,
    ) -> Registered | None:
        stays = self._stays(member, [PRIVATE, *channels])
        registered = super().connect_at_once(member, update, channels, since)
        self._place_all(stays, registered, since)
        return registered

    async def connect(
        self,
        member: Member,
        update: UserUpdate,
        channels: Mapping[str, Mapping[str, Any]] = NO_CHANNELS,
        since: Position | None = None,
    ) -> Registered | None:
        stays = self._note(member, [PRIVATE], since)
        registered = await super().connect(member, update, channels, since)
        if registered is not None:  # It may wait until a changed state of the user is announced.
            self._place(stays[PRIVATE], registered.offsets[0], since)
        return registered

    async def join(
        self, member: Member, channels: Mapping[str, Mapping[str, Any]], since: Position | None = None
    ) -> dict[str, int]:
        stays = self._note(member, channels, since)
        joined = await super().join(member, channels, since)
        # Of several, others may have had their turn in between.
        for name, offset in joined.items():
            self._place(stays[name], offset, since)
        return joined


class BookedBudget(Budget):
    """The product's budget, which also counts how often it was exceeded."""

    exceeded = 0

    def added(self, log: Log, size: int) -> None:
        self.exceeded += self.used_bytes + size > self.limit_bytes
        super().added(log, size)

    def changed(self, size: int) -> None:
        self.exceeded += self.used_bytes + size > self.limit_bytes
        super().changed(size)


class BookedRegistry(Registry):
    """The product's registry, which also counts how often each channel was configured, and notes when it was used.

    Attributes:
        lifetime_s: how long an idle user or channel is kept.
        used_s: when each user and channel was last used, by the time of the loop, which no step of a script sets.
        passers_by: users to whom nobody comes back.
        failures: promises that were broken; housekeeping would survive an exception.
    """

    lifetime_s: float
    failures: list[Failure]

    def __init__(
        self, limits: RegistryLimits, new_id: Callable[[], str], passers_by: frozenset[str] = frozenset()
    ) -> None:
        super().__init__(limits, new_id, passers_by.__contains__)
        self.passers_by = passers_by
        self._missed: set[Channel] = set()
        self.budget: BookedBudget = BookedBudget(self.limits.log_bytes)
        self.configured: dict[str, int] = {}
        self.used_s: dict[User | Channel, float] = {}

    def configure(self, name: str, *more: Any) -> Channel:
        self.configured[name] = self.configured.get(name, 0) + 1
        channel = super().configure(name, *more)
        self._missed.add(channel)
        return channel

    def open_channel(self, name: str, patch: Mapping[str, Any], *more: Any) -> Channel:
        is_chosen = name not in self.channels and bool(patch)
        channel = super().open_channel(name, patch, *more)
        if is_chosen:
            self._missed.add(channel)
        self.used_s.setdefault(channel, _loop_s())
        return channel

    def add_member(self, channel: Channel, user: User, *more: Any) -> bool:
        if user.name not in self.passers_by:
            self._missed.add(channel)
        return super().add_member(channel, user, *more)

    def commit(self, entry: Entry, *more: Any) -> None:
        super().commit(entry, *more)
        if entry.event.channel in self.channels:
            self._missed.add(self.channels[entry.event.channel])

    def goes_soon(self, item: User | Channel) -> bool:
        """Whether nobody would miss it: a user to whom nobody comes back, or a channel that had no others, nor anything."""
        return item.name in self.passers_by if isinstance(item, User) else item not in self._missed

    def add_user(self, name: str, *more: Any) -> User:
        user = super().add_user(name, *more)
        self.used_s[user] = _loop_s()
        return user

    def touch_user(self, user: User, now: Moment) -> None:
        super().touch_user(user, now)
        self.used_s[user] = _loop_s()

    def _touch_channel(self, channel: Channel, wall_s: float, steady_s: float) -> None:
        super()._touch_channel(channel, wall_s, steady_s)
        self.used_s[channel] = _loop_s()

    def forget_user(self, user: User) -> None:
        self._check_age(user)
        super().forget_user(user)

    def forget_channel(self, channel: Channel) -> None:
        self._check_age(channel)
        self._missed.discard(channel)
        super().forget_channel(channel)

    def _check_age(self, unused: User | Channel) -> None:
        age_s = _loop_s() - self.used_s.pop(unused)
        if age_s < self.lifetime_s - CALL_S and not self.goes_soon(unused):
            self.failures.append(Failure(f"forgotten too early: {unused.name} after {age_s}"))


def _loop_s() -> float:
    return asyncio.get_running_loop().time()
