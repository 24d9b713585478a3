"""The channels and users of one log, and the events that their changes cause.

Pure: the engine that owns a registry passes time and new ids in, gives offsets to the returned events, and delivers
them.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from channelstream.core.budget import Budget
from channelstream.core.channel import Channel, ChannelSettings
from channelstream.core.client_protocol import PresenceAudience
from channelstream.core.entry import Entry
from channelstream.core.events import Event, UserStateChanged
from channelstream.core.facts import Fact
from channelstream.core.idle import add_idle, idle_since_s, overdue
from channelstream.core.linked_order import LinkedOrder
from channelstream.core.log import Log, LogLimits, append_to_all
from channelstream.core.membership_facts import MembershipFacts, Wanted
from channelstream.core.moment import Moment
from channelstream.core.presence_events import PresenceEvents
from channelstream.core.registry_limits import RegistryLimits
from channelstream.core.registry_logs import RegistryLogs
from channelstream.core.timestamps import stamp
from channelstream.core.user import State, StateValue, User, is_changed
from channelstream.errors import Invalid


@dataclass(frozen=True, slots=True)
class Forgotten:
    """Names of the users and channels that a registry has forgotten."""

    users: list[str]
    channels: list[str]

    def __len__(self) -> int:
        return len(self.users) + len(self.channels)


class Registry:
    """Channels and users by name.

    Attributes:
        new_id: draws an id.
        presence: makes the events about members.
        logs: those of its channels and users.
        facts: makes the facts about members; None where none is wanted, or while the registry is restored.
    """

    def __init__(
        self,
        limits: RegistryLimits,
        new_id: Callable[[], str],
        is_brief: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """Create an empty registry.

        Args:
            limits: the bounds of what it holds.
            new_id: draws an id.
            is_brief: whether a user of this name is forgotten soon after its last connection has ended: nobody comes back
                to it. See also `Channel.is_brief`.
        """
        self.limits = limits
        self._is_brief = is_brief
        self.channels: dict[str, Channel] = {}
        self.users: dict[str, User] = {}
        self.presence = PresenceEvents(self.users, new_id)
        self.logs = RegistryLogs(self.channels, self.users)
        self.facts: MembershipFacts | None = None
        self.budget = Budget(limits.log_bytes)
        self._idle_users: LinkedOrder[User] = LinkedOrder()
        self._idle_channels: LinkedOrder[Channel] = LinkedOrder()
        self.new_id = new_id
        self._defaults = self._bounded(
            ChannelSettings(log_events=limits.log_events, log_age_s=limits.log_age_s)
        )
        self._user_limits = LogLimits(limits.user_log_events, limits.private_age_s)

    def make_facts(self, wanted: Wanted, keep: Callable[[Fact], None]) -> None:
        """Make facts about members from now on.

        Args:
            keep: called with each one, in the step that changes the membership.
        """
        self.facts = MembershipFacts(wanted, self.new_id, keep) if wanted else None

    # -- users

    def open_user(self, name: str, fresh_state: Mapping[str, StateValue], floor: int, now: Moment) -> User:
        """Return the user, created with `fresh_state` if it is new."""
        user = self.users.get(name) or self.add_user(name, fresh_state, floor, now)
        self.touch_user(user, now)
        return user

    def add_user(self, name: str, fresh_state: Mapping[str, StateValue], floor: int, now: Moment) -> User:
        """Create a user, which is about to be touched or connected."""
        log = Log(self._user_limits, self.budget, floor)
        user = self.users[name] = User(name, self.new_id(), log, now.wall_s)
        user.update_state(fresh_state)
        return user

    def check_state(self, name: str, *values: Mapping[str, StateValue]) -> None:
        """Refuse values that would give a user's state too many keys or bytes.

        Raises:
            Invalid: more than `MAX_STATE_KEYS` keys, or than `MAX_STATE_BYTES`.
        """
        if not any(values):
            return
        user = self.users.get(name) or User(name, "", Log(self._user_limits, self.budget, 0), 0.0)
        refusal = user.exceeded_limit(*values)
        if refusal is not None:
            raise Invalid({"user_state": [refusal]})

    def touch_user(self, user: User, now: Moment) -> None:
        """Record activity of the user."""
        user.last_active_s, user.idle_since_s = now.wall_s, now.steady_s
        if not user.connections:
            add_idle(self._idle_users, user, self._is_brief(user.name))

    def connect(self, user: User, now: Moment) -> None:
        """Add a connection to the user."""
        user.connections += 1
        user.last_active_s, user.idle_since_s = now.wall_s, now.steady_s
        if user.connections == 1:
            self._idle_users.remove(user)
            if self.facts is not None:
                self.facts.online(user.name, now.wall_s)

    def disconnect(self, user: User, now: Moment) -> None:
        """Remove a connection from the user."""
        user.connections -= 1
        self.touch_user(user, now)
        if self.facts is not None and not user.connections:
            self.facts.offline(user.name, now.wall_s)

    def state_events(self, user: User, before: State, now_s: float) -> Iterator[Event]:
        """Return the events of a change of state: none unless the public state differs from `before`.

        A key that becomes public is sent with its value, one that is no longer public with null. The events are made as
        they are taken; until the last one the user must stay in its channels.
        """
        after = user.public_state
        public_changes = tuple(
            (key, after.get(key))
            for key in sorted(before.keys() | after.keys())
            if is_changed(before, after, key)
        )
        timestamp = stamp(now_s)
        return (
            UserStateChanged(
                uuid=self.new_id(),
                channel=name,
                user=user.name,
                timestamp=timestamp,
                state=after,
                changed=public_changes,
            )
            for name in (sorted(user.channels) if public_changes else ())
            if self.channels[name].settings.notify_state
        )

    # -- channels

    def open_channel(self, name: str, patch: Mapping[str, Any], floor: int, now: Moment) -> Channel:
        """Return the channel, created with these settings if it is new."""
        channel = self.channels.get(name)
        if channel is None:
            settings = self._bounded(replace(self._defaults, **patch)) if patch else self._defaults
            limits = settings.log_limits(self.limits.transit_s)
            channel = Channel(name, self.new_id(), settings, limits, self.budget, floor, now.wall_s)
            channel.idle_since_s = now.steady_s
            channel.is_brief = not patch
            self.channels[name] = channel
            self._idle_channels.move_to_end(channel)
        return channel

    def _touch_channel(self, channel: Channel, wall_s: float, steady_s: float) -> None:
        channel.last_active_s = wall_s
        channel.idle_since_s = steady_s
        if not channel.connections:
            add_idle(self._idle_channels, channel, channel.is_brief)

    def set_brief(self, channel: Channel, is_brief: bool, now: Moment) -> None:
        """Have a channel forgotten soon after its last connection has left, or kept as others from now on."""
        if channel.is_brief != is_brief:
            channel.is_brief = is_brief
            self._touch_channel(channel, channel.last_active_s, now.steady_s)

    def configure(self, name: str, patch: Mapping[str, Any], floor: int, now: Moment) -> Channel:
        """Change the named settings of a channel, created if it is new; the others stay as they are."""
        channel = self.open_channel(name, {}, floor, now)
        self.set_brief(channel, False, now)
        self.apply_settings(channel, self._bounded(replace(channel.settings, **patch)), now.steady_s)
        return channel

    def apply_settings(self, channel: Channel, settings: ChannelSettings, steady_s: float) -> None:
        """Set the settings of a channel, and apply their bounds to its logs."""
        channel.configure(settings, settings.log_limits(self.limits.transit_s), steady_s)

    def _bounded(self, settings: ChannelSettings) -> ChannelSettings:
        size = min(settings.history_size, self.limits.history_size)
        return replace(settings, history_size=size)

    # -- membership

    def join(self, channel: Channel, user: User, presence: PresenceAudience, now: Moment) -> list[Event]:
        """Add a connection to a channel; return the event that announces the user, if it is the user's first one."""
        if not self.add_member(channel, user, presence, now):
            return []
        return self.presence.of(channel, user, joined=True, now_s=now.wall_s)

    def add_member(self, channel: Channel, user: User, presence: PresenceAudience, now: Moment) -> bool:
        """Add a connection to a channel; True if it is the user's first one, which must be announced."""
        first = channel.join(user.name, presence)
        channel.is_brief = channel.is_brief and self._is_brief(user.name)
        channel.last_active_s, channel.idle_since_s = now.wall_s, now.steady_s
        if channel.connections == 1:
            self._idle_channels.remove(channel)
        user.enter(channel.name)
        if self.facts is not None:
            self.facts.joined(channel, user.name, first, now.wall_s)
        return first

    def leave_and_announce(
        self, channel: Channel, user: User, presence: PresenceAudience, now: Moment
    ) -> list[Event]:
        """Remove a connection from a channel; return the event that announces it, if it was the user's last one."""
        if not self.leave(channel, user, presence, now):
            return []
        return self.presence.of(channel, user, joined=False, now_s=now.wall_s)

    def leave(self, channel: Channel, user: User, presence: PresenceAudience, now: Moment) -> bool:
        """Remove a connection from a channel; True if it was the user's last one, which must be announced."""
        last = channel.leave(user.name, presence)
        self._touch_channel(channel, now.wall_s, now.steady_s)
        if last:
            user.exit(channel.name)
        if self.facts is not None:
            self.facts.left(channel, user.name, last, now.wall_s)
        return last

    # -- another process, or another run

    def restore_connection(
        self, name: str, channels: Iterable[str], presence: PresenceAudience, floor: int, now: Moment
    ) -> None:
        """Add a connection of a user to channels, announced as it is; what is unknown is created."""
        user = self.open_user(name, {}, floor, now)
        self.connect(user, now)
        for each in channels:
            self.add_member(self.open_channel(each, {}, floor, now), user, presence, now)

    def order_idle(self) -> None:
        """Put idle users and channels into the order of their idle times, which were set in another one."""
        self._idle_users.sort(idle_since_s)
        self._idle_channels.sort(idle_since_s)

    # -- events

    def commit(self, entry: Entry, now_s: float) -> None:
        """Append an accepted event to its logs, compact what it supersedes, and update the history.

        Args:
            now_s: epoch seconds.
        """
        event = entry.event
        kept = self.logs.compact(entry) if event.supersedes is not None else entry
        if event.channel is None:
            append_to_all(self.logs.of(event), kept)
            return
        channel = self.channels.get(event.channel)
        if channel is not None:
            channel.log.append(kept)
            channel.is_brief = False
            self._touch_channel(channel, now_s, entry.at_s)
            if channel.settings.store_history or event.supersedes is not None:
                self.logs.update_history(channel, entry)

    # -- ageing

    def collect(
        self, steady_s: float, users_after_s: float, channels_after_s: float, most: int | None = None
    ) -> Forgotten:
        """Forget users without connections and channels without members that have been idle for too long.

        It looks only at those with the longest idle time, so a call costs as much as it frees.

        Args:
            steady_s: the engine's clock: setting the wall clock changes nothing here.
            users_after_s: idle time of users; 0 keeps them.
            channels_after_s: idle time of channels; 0 keeps them.
            most: how many of both together at most; None means all.
        """
        forgotten = Forgotten([], [])
        while len(forgotten) != most and (user := overdue(self._idle_users, steady_s, users_after_s)):
            self.forget_user(user)
            forgotten.users.append(user.name)
        while len(forgotten) != most and (
            channel := overdue(self._idle_channels, steady_s, channels_after_s)
        ):
            self.forget_channel(channel)
            forgotten.channels.append(channel.name)
        return forgotten

    def forget_user(self, user: User) -> None:
        """Drop a user, who must have no connections."""
        user.log.clear()
        self._idle_users.remove(user)
        del self.users[user.name]

    def forget_channel(self, channel: Channel) -> None:
        """Drop a channel, which must have no members."""
        channel.log.clear()
        channel.history.clear()
        self._idle_channels.remove(channel)
        del self.channels[channel.name]
