"""The names of Pusher's channels."""

import pytest

from channelstream.core.pusher_names import (
    has_members,
    is_channel_name,
    is_of_user,
    keeps_last,
    needs_signature,
)


@pytest.mark.parametrize("name", ["a", "private-encrypted-a", "A-z_0=9@,.;", "x" * 200])
def test_names_have_letters_digits_and_eight_signs(name: str) -> None:
    """Letters, digits and eight signs."""
    assert is_channel_name(name)


@pytest.mark.parametrize(
    "name", ["", "x" * 201, "a b", "a/b", "a:b", "#a", "a\n", "ä", "\u0661", "a\x1fb", "#server-to-user-7"]
)
def test_names_have_no_other_sign(name: str) -> None:
    """Above all none with a slash, which ends the prefix of all of them in this server."""
    assert not is_channel_name(name)


@pytest.mark.parametrize(
    ("name", "is_valid"),
    [
        ("#server-to-user-7", True),
        ("#server-to-user-a/b ä", True),
        ("#server-to-user-", False),
        ("#server-to-user", False),
        ("server-to-user-77", False),
        ("#server-to-user-" + "x" * 184, True),
        ("#server-to-user-" + "x" * 185, False),
    ],
)
def test_any_user_has_a_channel(name: str, is_valid: bool) -> None:
    """Any id of a user, up to the length of other names."""
    assert is_of_user(name) is is_valid


@pytest.mark.parametrize(
    ("name", "is_signed", "is_presence", "is_cache"),
    [
        ("orders", False, False, False),
        ("private", False, False, False),
        ("Private-a", False, False, False),
        ("private-a", True, False, False),
        ("private-encrypted-a", True, False, False),
        ("presence-a", True, True, False),
        ("cache-a", False, False, True),
        ("private-cache-a", True, False, True),
        ("private-encrypted-cache-a", True, False, True),
        ("presence-cache-a", True, True, True),
        ("presence-encrypted-cache-a", True, True, False),
        ("a-cache-a", False, False, False),
        ("private-a-cache-", True, False, False),
        ("private-presence-a", True, False, False),
        ("#server-to-user-presence-a", False, False, False),
    ],
)
def test_the_beginning_of_a_name_decides_its_kind(
    name: str, is_signed: bool, is_presence: bool, is_cache: bool
) -> None:
    """Only there, and in this case."""
    assert (needs_signature(name), has_members(name), keeps_last(name)) == (is_signed, is_presence, is_cache)
