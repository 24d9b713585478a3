"""Users: which updates of a state are changes, and which keys are public."""

import pytest

from channelstream.core.budget import Budget
from channelstream.core.log import Log, LogLimits
from channelstream.core.user import (
    MAX_STATE_BYTES,
    MAX_STATE_KEYS,
    TOO_MANY_BYTES,
    TOO_MANY_KEYS,
    State,
    StateValue,
    User,
    UserUpdate,
)


@pytest.fixture
def user() -> User:
    return User("ann", "id", Log(LogLimits(10), Budget(10_000), 0), 5.0)


def test_a_new_user_has_nothing(user: User) -> None:
    """No state, no public keys, no channels, no connections."""
    assert (user.state, user.public_keys, user.channels, user.connections) == ({}, (), set(), 0)
    assert user.public_state == {}
    other = User("bob", "id", user.log, 5.0)
    assert user.state is other.state is user.public_state is other.public_state
    assert user.last_active_s == 5.0


def test_users_who_are_in_no_channel_share_what_is_empty(user: User) -> None:
    """A set that was emptied keeps the room for all channels that it had."""
    other, new = User("bob", "id", user.log, 5.0), User("eve", "id", user.log, 5.0)
    user.enter("a")
    other.enter("b")
    user.enter("c")
    user.exit("a")
    assert (user.channels, other.channels) == ({"c"}, {"b"})
    user.exit("c")
    assert user.channels is new.channels
    assert (new.channels, other.channels) == (set(), {"b"})


@pytest.mark.parametrize(
    ("before", "values", "changed"),
    [
        ({}, {"b": 1, "a": "x"}, [("a", "x"), ("b", 1)]),
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": True}, [("a", True)]),
        ({"a": True}, {"a": 1}, [("a", 1)]),
        ({"a": 0}, {"a": False}, [("a", False)]),
        ({"a": 1}, {"a": 1.0}, [("a", 1.0)]),
        ({"a": 1}, {"a": None}, [("a", None)]),
        ({}, {"a": None}, []),
        ({"a": 1}, {}, []),
    ],
)
def test_only_real_changes_are_returned(
    user: User, before: State, values: State, changed: list[tuple[str, StateValue]]
) -> None:
    """The same value of the same JSON type is no change; pairs come sorted by key."""
    user.state = dict(before)
    changes = user.update_state(values)
    assert [(key, value, type(value)) for key, value in changes] == [(k, v, type(v)) for k, v in changed]
    stored = {key: type(value) for key, value in changes if value is not None}
    assert stored == {key: type(user.state[key]) for key in dict(changes) if key in user.state}


def test_a_state_is_replaced_by_a_change(user: User) -> None:
    """Users without a state share one, and an answer has the state that it was made with."""
    other = User("bob", "id", user.log, 5.0)
    user.update_state({"a": 1})
    before = user.state
    user.update_state({"a": 2})
    assert (before, user.state, other.state) == ({"a": 1}, {"a": 2}, {})


def test_a_null_removes_a_key(user: User) -> None:
    """A known one goes, an unknown one does not appear."""
    user.update_state({"known": 1, "other": 2})
    assert user.update_state({"known": None, "unknown": None}) == [("known", None)]
    assert user.state == {"other": 2}


def test_keys_are_counted_as_they_would_be_after_updates(user: User) -> None:
    """One update after the other: removed keys make room, a key set twice counts once."""
    user.update_state({"a": 1, "b": 2})
    room = MAX_STATE_KEYS - 2
    assert user.exceeded_limit() is None
    assert user.exceeded_limit({f"k{number}": 0 for number in range(room)}) is None
    assert user.exceeded_limit({f"k{number}": 0 for number in range(room + 1)}) == TOO_MANY_KEYS
    assert user.exceeded_limit({f"k{number}": 0 for number in range(room + 1)}, {"k0": None}) is None
    # Quotes and the key count as well; what is too large already may stay, or shrink.
    assert user.exceeded_limit({"a": "", "b": "x" * (MAX_STATE_BYTES - 10)}) is None
    assert user.exceeded_limit({"a": "", "b": "x" * (MAX_STATE_BYTES - 9)}) == TOO_MANY_BYTES
    user.update_state({"a": "x" * MAX_STATE_BYTES})
    assert user.exceeded_limit({"b": None}) is None
    assert user.exceeded_limit({"c": 1}) == TOO_MANY_BYTES


def test_public_state_has_the_public_keys_that_exist(user: User) -> None:
    """Other users see exactly the keys made public, in that order, and none that has no value."""
    user.update_state({"a": 1, "b": 2, "c": 3})
    user.publish_keys(["c", "missing", "a", "c"])
    assert user.public_keys == ("c", "missing", "a")
    assert list(user.public_state.items()) == [("c", 3), ("a", 1)]


def test_publishing_keys_replaces_the_old_ones(user: User) -> None:
    """The list is the whole list, not an addition."""
    user.update_state({"a": 1, "b": 2})
    user.publish_keys(["a"])
    user.publish_keys(["b"])
    assert user.public_state == {"b": 2}


def test_the_presence_entry_is_rebuilt_only_by_a_change(user: User) -> None:
    """Very many events share it, and those made before a change keep the old one."""
    user.update_state({"a": 1, "b": 2})
    user.publish_keys(["a"])
    first = user.listed
    assert first == (user.name, {"a": 1})
    user.publish_keys(["a"])
    user.update_state({"a": 1})
    user.update_state({})
    assert user.listed is first
    user.update_state({"a": 3})
    assert user.listed == (user.name, {"a": 3})
    user.publish_keys(["a", "b"])
    assert user.listed == (user.name, {"a": 3, "b": 2})
    assert user.listed[1] is user.public_state
    user.restore({"c": 4}, ["c"])
    assert (user.state, user.listed, first) == ({"c": 4}, (user.name, {"c": 4}), (user.name, {"a": 1}))


def test_a_first_state_replaces_the_whole_state() -> None:
    """What it does not name goes, and what it names is public; other values stay private."""
    update = UserUpdate({"b": 2}, {"c": 3}, add_public=["d"], first={"a": 1})
    assert update.of_first({"a": 0, "e": 5}) == UserUpdate(
        {"a": 1, "e": None, "b": 2}, {"c": 3}, public_keys=("a",), add_public=["d"]
    )
    without = UserUpdate({"b": 2}, {})
    assert without.of_first({"a": 0}) is without
