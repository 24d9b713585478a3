"""What clients that act for themselves see of a channel."""

import msgspec
import pytest
from tests.large_numbers import check_time

from channelstream.api.client_info import shown


@pytest.mark.parametrize(
    ("with_users", "text"),
    [
        (False, b'{"name":"a","history":[1.0e+2]}'),
        (True, b'{"name":"a","users":[],"history":[1.0e+2]}'),
    ],
)
def test_users_are_left_out_where_they_are_not_granted(with_users: bool, text: bytes) -> None:
    """The rest is sent as it is."""
    described = msgspec.Raw(b'{"name":"a","users":[],"history":[1.0e+2]}')
    assert msgspec.json.encode(shown(described, with_users)) == text


def test_messages_are_not_read() -> None:
    """A few bytes ask for all that is kept, which clients have published."""
    check_time(lambda numbers: shown(msgspec.Raw(b'{"name":"a","history":%b}' % numbers), with_users=False))
