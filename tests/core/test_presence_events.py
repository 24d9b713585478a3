"""Who is in a channel after presence events."""

from channelstream.core.events import Message, Presence, UserLeft, UsersLeft
from channelstream.core.presence_events import apply_presence
from channelstream.core.user import State

AT = "2027-01-15T08:00:00"


def joined(user: str, **state: str) -> Presence:
    return Presence(uuid="u", channel="a", user=user, joined=True, timestamp=AT, state=dict(state))


def left(user: str) -> Presence:
    return Presence(uuid="u", channel="a", user=user, joined=False, timestamp=AT, state=None)


def all_left(*users: str) -> UsersLeft:
    departures = tuple(UserLeft(name, "u", len(users) - number) for number, name in enumerate(users, 1))
    return UsersLeft(uuid="u", channel="a", departures=departures, timestamp=AT)


def test_the_last_event_of_each_user_counts() -> None:
    """Whether the members knew of it already or not."""
    members: dict[str, State] = {"here": {"key": "kept"}, "back": {"key": "old"}, "gone": {}}
    events = [
        left("back"), joined("back", key="new"), joined("early"), left("early"), all_left("gone", "never"),
        joined("late"), Message(uuid="m", channel="a", user="x", payload=b"1", timestamp=AT),
    ]  # fmt: skip
    expected = {"here": {"key": "kept"}, "back": {"key": "new"}, "late": {}}
    for _ in range(2):
        apply_presence(members, events)
        assert members == expected
