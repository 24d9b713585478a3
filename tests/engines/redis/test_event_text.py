"""The texts of events that the script publishes and answers: packed, and made JSON by the nodes."""

from typing import Any

import msgspec
import pytest
from tests.calls import calls
from tests.engines.test_event_codec import MESSAGE, STORED
from tests.large_numbers import check_time

from channelstream.core.events import Event, Message, Presence, UserStateChanged
from channelstream.engines.redis import event_text
from channelstream.engines.redis.link_state import UNREADABLE

AT_MS = 1500
AT = "1970-01-01T00:00:01.500000"
pack = msgspec.msgpack.encode


def record(event: Event) -> bytes:
    """Return the text that the script makes of a published event."""
    fields = event_text.write_event(event, "token")
    return pack(["record", *(fields[name] for name in ("head", "only", "exclude", "parts"))])


@pytest.mark.parametrize(
    "event", [event for event, kind, *_ in STORED if kind in ("message", "edit", "delete")]
)
def test_a_record_is_the_event_that_was_published(event: Event) -> None:
    assert event_text.read_event(record(event)) == event


def test_a_payload_beside_the_log_is_put_back() -> None:
    """Its record has a token in its place."""
    big = msgspec.structs.replace(MESSAGE, payload=b'"%b"' % (b"x" * event_text.BIG_BYTES))
    text = record(big)
    assert len(text) < 1000
    assert event_text.read_event(text, big.payload) == big


def test_an_event_of_the_script_has_its_states_line_by_line() -> None:
    """Keys and values are JSON texts, with a tab between; a user without a public state has no line."""
    lines, users = '"x"\t1.0\n"z"\t"\\t"', ["ann", '"y"\t{}', "bob", ""]
    text = pack(["presence", "p", "a", 'a "b"', lines, users, False, True, AT_MS])
    assert event_text.read_event(text) == Presence(
        uuid="p",
        channel="a",
        user='a "b"',
        joined=True,
        timestamp=AT,
        state={"x": 1.0, "z": "\t"},
        users=(("ann", {"y": {}}), ("bob", {})),
    )
    left = event_text.read_event(pack(["presence", "p", "a", "ann", False, [], True, False, AT_MS]))
    assert isinstance(left, Presence)
    assert (left.joined, left.state, left.users_cut, left.announced) == (False, None, True, False)
    changed = event_text.read_event(
        pack(["state", "s", "a", "ann", '"x"\t1', ['"x"', "1", '"y"', "null"], AT_MS])
    )
    assert changed == UserStateChanged(
        uuid="s", channel="a", user="ann", timestamp=AT, state={"x": 1}, changed=(("x", 1), ("y", None))
    )


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        pack(["poll"]),
        pack(["record", "{", False, False, ["", "", "", ""]]),
        pack(["record", '{"kind":"delete","uuid":"m"', 1, False, ["", "", "", ""]]),
        pack(["presence", "p", "a", "ann", '"x"', [], False, True, AT_MS]),
        pack(["presence", "p", "a", "ann", '"x"\t{', [], False, True, AT_MS]),
        pack(["presence", "p", "a", "ann", "", ["ann"], False, True, AT_MS]),
    ],
)
def test_what_is_no_text_of_the_script_is_unreadable(text: bytes) -> None:
    """The link is closed for any of these errors, and no other one."""
    with pytest.raises(UNREADABLE):
        event_text.read_event(text)


def steps_to_read(text: bytes) -> int:
    """Return how many functions are called to read an event, once caches are filled."""
    event_text.read_event(text)
    return calls(lambda: event_text.read_event(text), in_c=True)


def test_the_states_of_a_list_are_read_in_one_step() -> None:
    """A list has up to a thousand users, and each node reads it with every join of the channel."""

    def text(users: int, keys: int) -> bytes:
        state = "\n".join(f'"key{number}"\t"value"' for number in range(keys))
        listed = [part for number in range(users) for part in (f"user{number}", state)]
        return pack(["presence", "p", "a", "ann", state, listed, False, True, AT_MS])

    assert steps_to_read(text(users=1000, keys=5)) == steps_to_read(text(users=1, keys=1))


def test_a_payload_is_never_parsed() -> None:
    for payload in (b"1.0", b"1e400", b'"\xc3\xa9\\ud800"', b"[]"):
        event = Message(uuid="m", channel="a", user="ann", payload=payload, timestamp="t")
        read: Any = event_text.read_event(record(event))
        assert read.payload == payload


def test_large_numbers_of_states_are_read_as_fast_as_others() -> None:
    """Each presence event may have the states of a thousand users."""

    def read(numbers: bytes) -> None:
        values = numbers[1:-1].decode().split(",")
        event_text.public_states([f'"key"\t{value}' for value in values])

    check_time(read)
