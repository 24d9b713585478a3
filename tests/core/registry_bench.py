"""A registry of the tests of `core.registry`, with events numbered as an engine does it."""

from itertools import count
from typing import Any

from tests.counted import counted_bytes

from channelstream.core.channel import Channel
from channelstream.core.client_protocol import PresenceAudience
from channelstream.core.entry import Entry
from channelstream.core.events import Event, Message
from channelstream.core.moment import Moment
from channelstream.core.registry import Registry
from channelstream.core.registry_limits import RegistryLimits
from channelstream.core.user import User

ALWAYS, IF_ANNOUNCED = PresenceAudience.ALWAYS, PresenceAudience.IF_ANNOUNCED
GUESTS = frozenset({"guest", "other guest"})
"""Users to whom nobody comes back."""
NOW_S = 1_700_000_000.0
STEADY_S = 5000.0


def at(after_s: float) -> Moment:
    """Return a moment so many seconds after the beginning of a test."""
    return Moment(NOW_S + after_s, STEADY_S + after_s)


NOW = at(0)


class Bench:
    """A registry, and events numbered as an engine does it."""

    def __init__(self, limits: RegistryLimits | None = None) -> None:
        ids = (f"id{number}" for number in count())
        self.registry = Registry(limits or RegistryLimits(), lambda: next(ids), GUESTS.__contains__)
        self.offset = 0

    def user(self, name: str, now: Moment = NOW, **state: Any) -> User:
        user = self.registry.open_user(name, state, self.offset, now)
        self.registry.connect(user, now)
        return user

    def channel(self, name: str, now: Moment = NOW, **settings: Any) -> Channel:
        return self.registry.open_channel(name, settings, self.offset, now)

    def commit(self, event: Event, now: Moment = NOW) -> Entry:
        self.offset += 1
        entry = Entry(self.offset, ("e",), now.steady_s, event)
        self.registry.commit(entry, now.wall_s)
        return entry

    def join(self, channel: Channel, user: User, presence: PresenceAudience = IF_ANNOUNCED) -> list[Event]:
        return self.registry.join(channel, user, presence, NOW)

    def part(self, channel: Channel, user: User, presence: PresenceAudience = IF_ANNOUNCED) -> list[Event]:
        return self.registry.leave_and_announce(channel, user, presence, NOW)

    def check_budget(self) -> None:
        """The budget has counted exactly what the logs hold."""
        logs = [channel.log for channel in self.registry.channels.values()]
        logs += [channel.history for channel in self.registry.channels.values()]
        logs += [user.log for user in self.registry.users.values()]
        assert self.registry.budget.used_bytes == counted_bytes(logs, self.registry.budget)


def message(uuid: str, channel: str | None = "a", **rest: Any) -> Message:
    return Message(uuid=uuid, channel=channel, user="ann", payload=b'"hi"', timestamp="t", **rest)


def uuids(entries: list[Entry]) -> list[str]:
    return [entry.event.uuid for entry in entries]
