"""Users: what changes of their state count as changes, and what is public."""

import pytest

from channelstream.core.log import Budget, Log, LogLimits
from channelstream.core.user import State, StateValue, User


@pytest.fixture
def user() -> User:
    return User("ann", "id", Log(LogLimits(10), Budget(10_000), 0), 5.0)


def test_a_new_user_has_nothing(user: User) -> None:
    """No state, no public keys, no channels, no connections."""
    assert (user.state, user.public_keys, user.channels, user.connections) == ({}, (), set(), 0)
    assert user.public_state == {}
    assert user.last_active_s == 5.0


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
        ({"a": None}, {"a": None}, []),
        ({"a": None}, {"a": False}, [("a", False)]),
        ({}, {"a": None}, []),
        ({"a": 1}, {}, []),
    ],
)
def test_only_real_changes_are_told(
    user: User, before: State, values: State, changed: list[tuple[str, StateValue]]
) -> None:
    """The same value of the same JSON type is no change; pairs come sorted by key."""
    user.state = dict(before)
    told = user.update_state(values)
    assert [(key, value, type(value)) for key, value in told] == [(k, v, type(v)) for k, v in changed]
    assert {key: type(value) for key, value in told} == {k: type(user.state[k]) for k, _ in changed}


def test_a_null_for_an_unknown_key_is_not_stored(user: User) -> None:
    """Keys the user never had do not appear by being set to null; known ones keep the null."""
    user.update_state({"known": 1})
    user.update_state({"known": None, "unknown": None})
    assert user.state == {"known": None}


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
