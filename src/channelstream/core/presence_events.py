"""The events that announce who joins a channel and who leaves it: none unless somebody receives them."""

from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence

from channelstream.core.channel import Channel
from channelstream.core.events import Event, Presence, UserLeft, UsersLeft, UserStateChanged
from channelstream.core.timestamps import stamp
from channelstream.core.user import State, User

MAX_LISTED_USERS = 1000
"""Most users in the list of a presence event; a larger channel has none, since each member would be sent all of it."""


def apply_presence(members: MutableMapping[str, State], events: Iterable[Event]) -> None:
    """Make the members of a channel, by name with public states, those that its later events have made.

    Events that the members know already change nothing in the end, if all that came after these are there, too.
    """
    for event in events:
        if isinstance(event, Presence) and event.joined:
            members[event.user] = event.state or {}
        elif isinstance(event, Presence | UsersLeft):
            for user in event.about:
                members.pop(user, None)
        elif isinstance(event, UserStateChanged) and event.user in members:
            members[event.user] = event.state


class PresenceEvents:
    """Makes the presence events of a registry."""

    def __init__(self, users: Mapping[str, User], new_id: Callable[[], str]) -> None:
        """Create what makes the events of one registry.

        Args:
            users: of the registry, by name; at least the members of the channels.
        """
        self._users = users
        self._new_id = new_id

    def of(self, channel: Channel, user: User, joined: bool, now_s: float) -> list[Event]:
        """Return the event that announces that a user has joined a channel, or left it."""
        if not _is_received(channel):
            return []
        return [
            Presence(
                uuid=self._new_id(),
                channel=channel.name,
                user=user.name,
                joined=joined,
                timestamp=stamp(now_s),
                state=user.public_state if joined else None,
                users=self._listed(channel),
                users_cut=_asks_for_lists(channel) and not self.lists_users(channel),
                announced=channel.settings.notify_presence,
            )
        ]

    def departures(self, channel: Channel, users: Sequence[str], now_s: float) -> list[Event]:
        """Return the event that announces that the last connections of these users have left a channel."""
        if len(users) == 1:
            return self.of(channel, self._users[users[0]], joined=False, now_s=now_s)
        if not _is_received(channel):
            return []
        ids = [self._new_id() for _ in users]
        return [
            UsersLeft(
                uuid=ids[-1],
                channel=channel.name,
                departures=tuple(
                    UserLeft(name, new_id, len(users) - number)
                    for number, (name, new_id) in enumerate(zip(users, ids, strict=True), 1)
                ),
                timestamp=stamp(now_s),
                users=self._listed(channel),
                users_cut=_asks_for_lists(channel) and not self.lists_users(channel),
                announced=channel.settings.notify_presence,
            )
        ]

    def _listed(self, channel: Channel) -> tuple[tuple[str, State], ...]:
        """Return (name, public state) of the members; empty unless the channel broadcasts user lists."""
        if not self.lists_users(channel):
            return ()
        return tuple([self._users[name].listed for name in channel.users])

    def lists_users(self, channel: Channel) -> bool:
        """Whether presence events have the list of all members."""
        return _asks_for_lists(channel) and channel.user_count <= MAX_LISTED_USERS


def _is_received(channel: Channel) -> bool:
    """Whether anybody is sent the presence events of a channel."""
    return channel.settings.notify_presence or channel.always_connections > 0


def _asks_for_lists(channel: Channel) -> bool:
    settings = channel.settings
    return settings.notify_presence and settings.broadcast_presence_with_user_lists
