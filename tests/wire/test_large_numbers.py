"""What clients send is read in a time that its numbers do not change."""

from collections.abc import Callable

import pytest
from tests.large_numbers import check_time

from channelstream.wire.client_commands import Publish
from channelstream.wire.command_texts import Fault, read_command
from channelstream.wire.pusher_members import state_of
from channelstream.wire.pusher_payload import PusherEvent, payload_of
from channelstream.wire.pusher_texts import Identity, compact, fields_in, member_in, read_text


@pytest.mark.parametrize(
    "text",
    [
        b'{"type": %b}',
        b'{"type": "connect", "id": %b}',
        b'{"type": "state", "user_state": {"a": 1, "b": %b}}',
        b'{"type": "publish", "channel": "a", "message": %b}',
    ],
)
def test_commands_take_no_time(text: bytes) -> None:
    """Also those that are none, and those of strangers."""
    check_time(lambda numbers: read_command(text % numbers))


def test_values_of_a_state_take_no_time() -> None:
    """Each is a number, and there are more of them than a state may have."""

    def read(numbers: bytes) -> None:
        values = b",".join(b'"k%d":%b' % each for each in enumerate(numbers[1:-1].split(b",")))
        assert isinstance(read_command(b'{"type":"state","user_state":{%b}}' % values), Fault)

    check_time(read)


@pytest.mark.parametrize(
    "read",
    [
        lambda numbers: read_text(b'{"event": %b}' % numbers),
        lambda numbers: read_text(b'{"event": "x", "channel": %b}' % numbers),
        lambda numbers: fields_in(numbers),
        lambda numbers: compact(numbers),
        lambda numbers: member_in((b'{"user_id": "a", "user_info": %b}' % numbers).decode()),
        lambda numbers: member_in((b'{"user_id": %b}' % numbers).decode()),
        lambda numbers: state_of((b'{"a": %b}' % numbers).decode()),
        lambda numbers: payload_of(PusherEvent("x", numbers.decode())),
    ],
)
def test_texts_of_pusher_take_no_time(read: Callable[[bytes], object]) -> None:
    """Events, and who their members are."""
    check_time(read)


def test_large_numbers_are_sent_on() -> None:
    """Unchanged."""
    publish = read_command(b'{"type":"publish","channel":"a","message":[1e300,-1.7976931348623157e308]}')
    assert isinstance(publish, Publish)
    assert publish.payload == b"[1e300,-1.7976931348623157e308]"
    assert member_in('{"user_id":"a","user_info":[1e300]}') == Identity("a", b"[1e300]")
