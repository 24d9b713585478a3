"""Users who leave channels in one turn: announced once for each channel, and never too many at a time."""

from itertools import count

import pytest

from channelstream.core.channel import Channel
from channelstream.core.client_protocol import PresenceAudience
from channelstream.core.events import Event, Presence, UsersLeft
from channelstream.core.leave_batch import TURN_COST, USERS_AT_ONCE, LeaveBatch
from channelstream.core.moment import Moment
from channelstream.core.registry import Registry
from channelstream.core.registry_limits import RegistryLimits

NOW = Moment(1_700_000_000.0, 5.0)


class Crowd:
    """A channel full of users."""

    def __init__(
        self, users: int, presence: PresenceAudience = PresenceAudience.IF_ANNOUNCED, **settings: bool
    ) -> None:
        ids = count()
        self.registry = Registry(RegistryLimits(), lambda: f"id{next(ids)}")
        self.presence = presence
        self.channel: Channel = self.registry.open_channel("a", settings, 0, NOW)
        for number in range(users):
            user = self.registry.open_user(f"u{number}", {}, 0, NOW)
            self.registry.connect(user, NOW)
            self.registry.join(self.channel, user, presence, NOW)
        self.parting = LeaveBatch(self.registry)

    def leave(self, *numbers: int) -> None:
        for number in numbers:
            self.parting.leave(self.channel, self.registry.users[f"u{number}"], self.presence, NOW)

    def events(self) -> list[Event]:
        return list(self.parting.events(NOW.wall_s))

    def leave_while_there_is_room(self) -> int:
        """Return how many have left."""
        left = 0
        while not self.parting.is_full:
            self.leave(left)
            left += 1
        return left


def test_one_user_leaves_with_the_event_for_one() -> None:
    """With the single event."""
    crowd = Crowd(2, notify_presence=True)
    assert not crowd.parting
    crowd.leave(0)
    assert crowd.parting
    (event,) = crowd.events()
    assert isinstance(event, Presence)
    assert (event.user, event.joined) == ("u0", False)


def test_several_users_leave_in_one_event() -> None:
    """In the order in which they left; a user with another connection there has not left."""
    crowd = Crowd(4, notify_presence=True, broadcast_presence_with_user_lists=True)
    crowd.registry.join(crowd.channel, crowd.registry.users["u1"], PresenceAudience.IF_ANNOUNCED, NOW)
    crowd.leave(2, 1, 0)
    (event,) = crowd.events()
    assert isinstance(event, UsersLeft)
    assert [(gone.user, gone.behind) for gone in event.departures] == [("u2", 1), ("u0", 0)]
    assert len({gone.uuid for gone in event.departures}) == 2
    assert (event.uuid, event.announced) == (event.departures[-1].uuid, True)
    assert [name for name, _ in event.users] == ["u1", "u3"]


@pytest.mark.parametrize(
    ("staying", "announced"), [(PresenceAudience.ALWAYS, 1), (PresenceAudience.IF_ANNOUNCED, 0)]
)
def test_without_notify_presence_only_always_receives(staying: PresenceAudience, announced: int) -> None:
    """And no others, so that no event is accepted without a receiver."""
    crowd = Crowd(3)
    user = crowd.registry.open_user("stays", {}, 0, NOW)
    crowd.registry.join(crowd.channel, user, staying, NOW)
    crowd.leave(0, 1)
    assert [event.about for event in crowd.events()] == [("u0", "u1")] * announced


def test_a_turn_has_a_bounded_number_of_users() -> None:
    """Clients are sent an item for each."""
    crowd = Crowd(2 * USERS_AT_ONCE, notify_presence=True)
    assert USERS_AT_ONCE / 2 < crowd.leave_while_there_is_room() <= USERS_AT_ONCE


def test_a_turn_lists_a_bounded_number_of_names() -> None:
    """Of a large channel that broadcasts lists few users leave at a time, as each item has the whole list."""
    crowd = Crowd(USERS_AT_ONCE, notify_presence=True, broadcast_presence_with_user_lists=True)
    assert crowd.leave_while_there_is_room() <= TURN_COST / USERS_AT_ONCE
