"""The log of one process and the changes each use case makes in it; the engines that are not shared have this in common.

Two steps make an event visible: `assign` gives it an offset, `commit` puts it into the logs. The memory engine does both
at once; the SQLite engine commits when the event is on the disk. Readers (`local_reads.py`) see committed
entries only. In between an entry is staged: it counts for duplicates, edits and deletions that are accepted next, as
these will be committed after it.

A changed state is announced to its channels in several loop turns (`announcements.py`): what changes it again, or the
channels of its user, announces the rest first.
"""

import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from channelstream.core.acceptance import accept
from channelstream.core.accepted import Accepted
from channelstream.core.compaction import for_users, holders, is_for_others, superseded
from channelstream.core.entry import Entry
from channelstream.core.events import Event, Message
from channelstream.core.leave_batch import LeaveBatch
from channelstream.core.moment import Moment
from channelstream.core.position import Position
from channelstream.core.registry import Forgotten, Registry
from channelstream.core.registry_limits import Lifetimes
from channelstream.core.user import StateValue, User, UserChange, UserUpdate
from channelstream.engines.announcements import Announcements
from channelstream.engines.base import Clock, Registered, moment
from channelstream.engines.members import Leaving, Member
from channelstream.engines.staged import Staged
from channelstream.engines.user_groups import divide
from channelstream.slices import MANY, Slices

logger = logging.getLogger(__name__)

FORGOTTEN_AT_ONCE = 20
"""Idle users and channels forgotten in one turn of the event loop."""


class LocalLog:
    """Registry, offsets and position of one log.

    Attributes:
        assigned: the last offset that was assigned.
        committed: the last offset that was committed; lower than `assigned` while entries are staged.
        staged: these entries.
        announcements: the changed states that not all channels have received yet.
    """

    def __init__(
        self,
        registry: Registry,
        clock: Clock,
        begin: Position,
        lifetimes: Lifetimes,
        accept: Callable[[Event], None],
    ) -> None:
        """Create a log.

        Args:
            begin: the position it begins at; the epoch has no hyphen at its end.
            accept: takes every event of a use case, in order, and assigns its offset with `assign`.
        """
        self.registry = registry
        self.assigned = self.committed = begin.offsets[0]
        self._epochs = begin.epochs
        self._clock = clock
        self._lifetimes = lifetimes
        self._accept = accept
        self.staged = Staged()
        self.announcements = Announcements(clock, accept)

    @property
    def position(self) -> Position:
        return Position(self._epochs, (self.committed,))

    # -- entries

    def assign(self, event: Event) -> Entry:
        """Assign the next offset to an event, or the next several if it stands for several."""
        self.assigned += event.count
        return Entry(self.assigned, self._epochs, self._clock.steady(), event)

    def commit(self, entry: Entry) -> None:
        """Put an entry into the logs and the history, from which readers see it."""
        self.registry.commit(entry, self._clock.wall())
        self.committed = entry.offset

    def roll_back(self, entries: Iterable[Entry]) -> None:
        """Take back the offsets of all entries that are not committed, given here: no reader has seen them."""
        self.staged.remove(entries)
        self.assigned = self.committed

    # -- the log

    def divide(self, event: Event) -> AsyncIterator[Event]:
        """Divide a private event for very many users; see `EventLog.divide`."""
        return divide(event, self.registry, self.staged, self._clock)

    def publish(self, events: Sequence[Event]) -> list[Accepted]:
        """Accept events in order, except duplicates; see `EventLog.publish`."""
        return [self.publish_one(event) for event in events]

    def publish_one(self, event: Event) -> Accepted:
        channel = event.channel
        # Nearly all messages are new: it may know nothing about them.
        may_know = channel is None or self.staged.entries or self.registry.logs.knows(channel, event.uuid)
        if not may_know and isinstance(event, Message):
            self._accept(event)
            return Accepted(event, duplicate=False, found=False)
        known = self._known(event) if may_know else ()
        accepted, new = accept(event, known)
        for each in new:
            self._accept(each)
        if channel is None and not known and self.registry.users.keys().isdisjoint(event.addressees):
            return replace(accepted, reaches_nobody=True)
        return accepted

    def _known(self, event: Event) -> list[Event]:
        """Return the committed and staged events about an uuid in their current form, from the event's channel or users.

        Of a private one each is for those of the users who have it.
        """
        known = self.registry.logs.events_about(event)
        shown = self.registry.logs.history_message(event)
        if shown is not None and not any(isinstance(each, Message) for each in known):
            known.append(shown.event)
        is_change = event.supersedes is not None
        for staged in self.staged.about(event):
            if is_change and is_for_others(event, staged):
                continue
            if event.channel is None:
                # As the known ones, only for users of the event: else it is for more than an older edit that it takes over.
                staged = for_users(staged, holders(staged) & (event.only or frozenset()))
            known = superseded(known, staged)
        return known

    def _accept_all(self, events: Iterable[Event]) -> None:
        for event in events:
            self._accept(event)

    # -- connections

    def connect(self, member: Member, update: UserUpdate) -> UserChange:
        """Register a new connection of a user, created if need be, and update the user.

        The caller announces a change (`announcements`).
        """
        return self._connect(member, update, moment(self._clock))

    def connect_at_once(
        self, member: Member, update: UserUpdate, channels: Mapping[str, Mapping[str, Any]]
    ) -> Registered | None:
        """Register a new connection in channels; None if that may take more than one short turn of the event loop.

        Nothing is taken back, as nothing waits that could be cancelled: the state of the user is checked before the first
        change, and what receives events or signals of the later ones fails for itself (`service/signals.py`).

        Raises:
            Invalid: the state of the user would be too large; nothing has happened.
        """
        known = self.registry.users.get(member.user)
        if (
            member.user in self.announcements.waiting
            or len(channels) + (len(known.channels) if known else 0) >= MANY
        ):
            return None
        now = moment(self._clock)
        change = self._connect(member, update, now)
        return Registered(change.user, change.offsets, self._join_all(member, change.user, channels, now))

    def _connect(self, member: Member, update: UserUpdate, now: Moment) -> UserChange:
        known = self.registry.users.get(member.user)
        fresh = update.fresh if known is None else {}
        if known is None or not known.connections:
            update = update.of_first({} if known is None else known.state)
        self.registry.check_state(member.user, fresh, update.values)
        user = known or self.registry.add_user(member.user, update.fresh, self.committed, now)
        self.registry.connect(user, now)
        if self.registry.facts is not None:
            self.registry.facts.opened(member.conn_id, member.user, now.wall_s)
        return self._update(user, update)

    def undo_connect(self, member: Member) -> None:
        """Unregister a connection that has joined no channel."""
        self.add_closed(member)
        self.registry.disconnect(self.registry.users[member.user], moment(self._clock))

    def add_closed(self, member: Member) -> None:
        """Make the fact that a connection was unregistered, if it is wanted."""
        if self.registry.facts is not None:
            self.registry.facts.closed(member.conn_id, member.user, self._clock.wall())

    def disconnect_next(self, waiting: deque[Leaving]) -> list[Member]:
        """Unregister the first of these connections, as many as one turn of the event loop has time for, and return them.

        Users whose last connection left a channel share one event. A connection with very many channels may stay in
        `waiting` for the next turn, with the channels it is still in.
        """
        slices, now = Slices(self._clock.steady), moment(self._clock)
        leaves, disconnected = LeaveBatch(self.registry), list[Member]()
        while waiting and not (slices.is_over and (disconnected or leaves)) and not leaves.is_full:
            disconnected += self._unregister(waiting, leaves, now, slices)
        for event in leaves.events(now.wall_s):
            try:
                self._accept(event)
            except Exception:
                # No caller waits for an answer, and the members of the other channels still need their event.
                logger.exception("users who left could not be announced")
        return disconnected

    def _unregister(
        self, waiting: deque[Leaving], leaves: LeaveBatch, now: Moment, slices: Slices
    ) -> list[Member]:
        """Unregister the first connection and return it, or put it back with its remaining channels and return nothing."""
        first = waiting.popleft()
        member, channels = first.member, first.channels
        try:
            self.announcements.rest(member.user)
            user = self.registry.users[member.user]
            for at, name in enumerate(channels):
                if leaves.is_full or (at and slices.is_over):
                    waiting.appendleft(Leaving(member, channels[at:]))
                    return []
                leaves.leave(self.registry.channels[name], user, member.protocol.presence, now)
            self.add_closed(member)
            self.registry.disconnect(user, now)
        except Exception:
            # A bug about one of them must not keep the others in their channels for ever.
            logger.exception("a connection could not be unregistered")
        return [member]

    def join_next(
        self, member: Member, waiting: deque[tuple[str, Mapping[str, Any]]], joined: dict[str, int]
    ) -> list[str]:
        """Join the first of these channels, as many as one turn of the event loop has time for.

        Args:
            waiting: channels it is not in, each with the settings it gets if it is created; joined ones are removed.
            joined: receives the joined channels, each with the offset after which the connection is a member, even if a
                later one fails.

        Returns:
            The channels whose rows are not what they were: they were created, or brief (`Channel.is_brief`).
        """
        self.announcements.rest(member.user)
        slices, now, offset = Slices(self._clock.steady), moment(self._clock), self.committed
        user, changed = self.registry.users[member.user], list[str]()
        while waiting:
            name, patch = waiting.popleft()
            known = self.registry.channels.get(name)
            if known is None or known.is_brief:
                changed.append(name)
            self._join(name, patch, member, user, offset, now)
            joined[name] = offset
            if waiting and slices.is_over:
                break
        return changed

    def join(self, member: Member, channels: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
        """Join channels that a connection is not in, in one turn of the event loop; see `Directory.join`."""
        return self._join_all(member, self.registry.users[member.user], channels, moment(self._clock))

    def _join_all(
        self, member: Member, user: User, channels: Mapping[str, Mapping[str, Any]], now: Moment
    ) -> dict[str, int]:
        self.announcements.rest(member.user)
        offset = self.committed
        for name, patch in channels.items():
            self._join(name, patch, member, user, offset, now)
        return dict.fromkeys(channels, offset)

    def _join(
        self, name: str, patch: Mapping[str, Any], member: Member, user: User, offset: int, now: Moment
    ) -> None:
        """Join a channel after this offset, which is the floor of a new one: presence events of this call are later."""
        channel = self.registry.open_channel(name, patch, offset, now)
        events = self.registry.join(channel, user, member.protocol.presence, now)
        if events:
            self._accept_all(events)

    def leave_next(self, member: Member, waiting: deque[str], left: list[str]) -> None:
        """Leave the first of these channels, as many as one turn of the event loop has time for.

        Args:
            waiting: channels it is in; left ones are removed.
            left: receives the left channels, even if a later one fails.
        """
        self.announcements.rest(member.user)
        slices, now = Slices(self._clock.steady), moment(self._clock)
        user = self.registry.users[member.user]
        while waiting:
            name = waiting.popleft()
            events = self.registry.leave_and_announce(
                self.registry.channels[name], user, member.protocol.presence, now
            )
            left.append(name)
            self._accept_all(events)
            if slices.is_over:
                break

    def leave(self, member: Member, channels: Iterable[str]) -> None:
        """Leave channels that a connection is in, in one turn of the event loop."""
        waiting = deque(channels)
        while waiting:
            self.leave_next(member, waiting, [])

    # -- settings and state

    def configure(self, patches: Mapping[str, Mapping[str, Any]]) -> None:
        """Change settings of channels, created if need be; see `Directory.configure`."""
        now = moment(self._clock)
        for name, patch in patches.items():
            self.registry.configure(name, patch, self.committed, now)

    def update_user(self, name: str, update: UserUpdate) -> UserChange | None:
        """Change the state of a user; return None if the user is unknown.

        The caller announces a change (`announcements`).
        """
        user = self.registry.users.get(name)
        if user is None:
            return None
        self.registry.check_state(name, update.values)
        self.registry.touch_user(user, moment(self._clock))
        return self._update(user, update)

    def _update(self, user: User, update: UserUpdate) -> UserChange:
        self.announcements.rest(user.name)
        before = user.listed
        if update.public_keys is not None or update.add_public:
            keys = user.public_keys if update.public_keys is None else update.public_keys
            user.publish_keys((*keys, *update.add_public))
        changed: list[tuple[str, StateValue]] = user.update_state(update.values)
        if user.listed is not before:
            self.announcements.waiting[user.name] = self.registry.state_events(
                user, before[1], self._clock.wall()
            )
        return UserChange(user, changed, (self.committed,))

    # -- ageing

    async def free_cut(self) -> None:
        """Free the entries that were cut from logs, in short turns of the event loop."""
        slices = Slices(self._clock.steady)
        while self.registry.budget.free():
            await slices.due()

    async def sweep(self) -> None:
        """Free entries that are too old, in short turns of the event loop."""
        slices = Slices(self._clock.steady)
        for _ in self.registry.budget.sweep(self._clock.steady()):
            await slices.due()

    async def collect(
        self, forgotten: Callable[[Forgotten], None] = lambda _: None, most: int | None = None
    ) -> bool:
        """Forget idle users and empty channels, in short turns of the event loop.

        Args:
            forgotten: called with those of each turn, at the end of the same turn.
            most: how many to forget, and fewer than `FORGOTTEN_AT_ONCE` more; None means all.

        Returns:
            Whether there may be more.
        """
        slices, count = Slices(self._clock.steady), 0
        while idle := self.forget_idle():
            forgotten(idle)
            count += len(idle)
            if most is not None and count >= most:
                return True
            await slices.due()
        return False

    def forget_idle(self) -> Forgotten:
        """Forget at most `FORGOTTEN_AT_ONCE` idle users and empty channels."""
        idle_s = self._lifetimes
        return self.registry.collect(
            self._clock.steady(), idle_s.users_s, idle_s.channels_s, most=FORGOTTEN_AT_ONCE
        )
