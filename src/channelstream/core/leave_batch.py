"""Users who leave channels in one turn of the loop: gathered, so that of each channel it is announced once."""

from collections.abc import Iterator

from channelstream.core.channel import Channel
from channelstream.core.events import Dialect, Event
from channelstream.core.registry import Moment, Registry
from channelstream.core.user import User

TURN_COST = 20_000
"""What the events of one turn may cost, in pointers moved, or names listed (0.1 us each, measured)."""
EVENT_COST = 200
"""What an event costs besides, in the same unit."""
USERS_AT_ONCE = 250
"""Users of one event: clients of the older generations are sent an item for each."""


class LeaveBatch:
    """The users whose last connection has left a channel, by channel."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._users: dict[Channel, list[str]] = {}
        self._cost = 0

    def __bool__(self) -> bool:
        return bool(self._users)

    @property
    def is_full(self) -> bool:
        """Whether the events are as many, or as large, as one turn has time for."""
        return self._cost >= TURN_COST

    def leave(self, channel: Channel, user: User, dialect: Dialect, now: Moment) -> None:
        """Count a connection out of a channel."""
        if self._registry.leave(channel, user, dialect, now):
            users = self._users.setdefault(channel, [])
            # Each has a step in the batch of every member, once, and lists them, where they are listed.
            self._cost += TURN_COST // USERS_AT_ONCE
            if not users:
                self._cost += EVENT_COST + channel.connections
            if self._registry.lists_users(channel):
                self._cost += len(channel.users)
            users.append(user.name)

    def events(self, now_s: float) -> Iterator[Event]:
        """Yield what announces it."""
        for channel, users in self._users.items():
            yield from self._registry.departure_events(channel, users, now_s)
