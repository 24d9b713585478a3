"""Who is in a channel after presence events."""

from channelstream.core.events import Message, Presence, UserLeft, UsersLeft, UserStateChanged
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


def test_a_state_that_changed_after_the_join_counts() -> None:
    """Not that of the join, which is applied again; a change of who has left makes no member."""
    members: dict[str, State] = {"ann": {"key": "newer"}}
    changed = [
        UserStateChanged(
            uuid="u",
            channel="a",
            user=user,
            timestamp=AT,
            state={"key": "newer"},
            changed=(("key", "newer"),),
        )
        for user in ("ann", "bob")
    ]
    apply_presence(members, [joined("ann", key="first"), joined("bob"), left("bob"), *changed])
    assert members == {"ann": {"key": "newer"}}
