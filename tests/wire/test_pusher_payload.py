"""The payload of an event of Pusher: what native clients see of it, and that its text is found again."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from channelstream.wire.pusher_payload import MAX_NAME, PusherEvent, payload_of, read_payload

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.mark.parametrize(
    "data", ['{"n":1}', '{ "n": 1.50, "n":2}', "[]", "null", "-0", "12345678901234567890", '{"a":"\\u00e4ä"}']
)
def test_json_is_part_of_the_payload_byte_for_byte(data: str) -> None:
    """Native clients need not parse a text in it."""
    assert payload_of(PusherEvent("hi", data)) == b'{"event":"hi","data":%b}' % data.encode()


@pytest.mark.parametrize(
    "data",
    [
        *("", "hello", '"hello"', '"', " {}", "{} ", "{}\n", '{"a":\n1}', "[1,\r2]", "[1", "NaN", "1e999"),
        *('{"a":"\\ud800"}', "\ufeff{}", "[" * 201 + "]" * 201, "[" * 5000 + "]" * 5000),
    ],
)
def test_everything_else_remains_a_text(data: str) -> None:
    """JSON too, where the text would not be found again or would not fit into a payload."""
    payload = payload_of(PusherEvent("hi", data))
    assert json.loads(payload) == {"event": "hi", "data": data}
    assert b"\n" not in payload
    assert b"\r" not in payload


@given(
    name=st.text(min_size=1, max_size=200).filter(lambda name: not name.startswith("pusher")),
    data=st.text() | JSON.map(json.dumps) | JSON.map(lambda value: json.dumps(value, ensure_ascii=False)),
)
@example(name="x" * MAX_NAME, data="")
def test_the_text_is_found_again(name: str, data: str) -> None:
    """Whatever it is; and the payload is JSON."""
    event = PusherEvent(name, data)
    payload = payload_of(event)
    json.loads(payload)
    assert read_payload(payload) == event


@pytest.mark.parametrize(
    "payload",
    [
        *(b"1", b"null", b"[]", b'"hi"', b"{}", b'{"event":"hi"}', b'{"data":1}', b'{"event":1,"data":1}'),
        *(b'{"event":"hi","data":1,"more":1}', b'{"event":"","data":1}'),
        b'{"event":"%b","data":1}' % (b"x" * 201),
        *(b'{"event":"pusher:error","data":1}', b'{"event":"pusher_internal:member_added","data":1}'),
    ],
)
def test_another_payload_is_no_event(payload: bytes) -> None:
    """Above all none of the protocol's own: who may publish could pretend that a member joined."""
    assert read_payload(payload) is None


def test_an_application_may_publish_such_a_payload() -> None:
    """With blanks in it, and its keys in any order."""
    assert read_payload(b'{ "data": [1,  2], "event": "hi" }') == PusherEvent("hi", "[1,  2]")


@pytest.mark.parametrize("data", ['"hello"', '{"n": [1]}', "null"])
def test_data_of_a_client_is_sent_on_as_it_came(data: str) -> None:
    """A text stays a text, and an object an object: the mark tells such an event from one that a server triggers."""
    event = PusherEvent("client-hi", data, is_client=True)
    assert payload_of(event) == b'{"event":"client-hi","data":%b,"client":true}' % data.encode()
    assert read_payload(payload_of(event)) == event
