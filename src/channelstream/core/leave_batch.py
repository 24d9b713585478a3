"""Collects the users who leave channels in one loop turn, so that each channel gets one event for all of them."""

from collections.abc import Iterator

from channelstream.core.channel import Channel
from channelstream.core.client_protocol import PresenceAudience
from channelstream.core.events import Event
from channelstream.core.moment import Moment
from channelstream.core.registry import Registry
from channelstream.core.user import User

TURN_COST = 20_000
"""Cost of the events of one loop turn, in pointers moved or names listed (0.1 us each, measured)."""
EVENT_COST = 200
"""Cost of an event besides its recipients, in the same unit."""
USERS_AT_ONCE = 250
"""Most users of one event: it is sent as one item for each of them."""


class LeaveBatch:
    """Users whose last connection has left a channel, by channel."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._presence = registry.presence
        self._users: dict[Channel, list[str]] = {}
        self._cost = 0

    def __bool__(self) -> bool:
        return bool(self._users)

    @property
    def is_full(self) -> bool:
        """Whether the events cost as much as one loop turn may take."""
        return self._cost >= TURN_COST

    def leave(self, channel: Channel, user: User, presence: PresenceAudience, now: Moment) -> None:
        """Remove a connection from a channel."""
        if self._registry.leave(channel, user, presence, now):
            users = self._users.setdefault(channel, [])
            # An event costs one step for each member, and each user a share of it; lists cost a step for each name.
            self._cost += TURN_COST // USERS_AT_ONCE
            if not users:
                self._cost += EVENT_COST + channel.connections
            if self._presence.lists_users(channel):
                self._cost += len(channel.users)
            users.append(user.name)

    def events(self, now_s: float) -> Iterator[Event]:
        """Yield the events that announce the departures."""
        for channel, users in self._users.items():
            yield from self._presence.departures(channel, users, now_s)
