"""Texts of clients that were cut inside a character."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from channelstream.wire.client_commands import Info, Publish, Subscribe
from channelstream.wire.command_texts import Fault, read_commands
from channelstream.wire.cut_texts import MAX_CUTS, lenient
from channelstream.wire.pusher_texts import Asked, fields_in, read_text

PUBLISH = b'{"type": "publish", "channel": "a", "id": 1, "message": %b}'
NO_JSON = [Fault(None, "malformed", "The text is not JSON.")]
read_json = lenient(msgspec.json.Decoder(str).decode)


def commands(text: bytes) -> list[Any]:
    return list(read_commands(bytearray(text)))


@given(st.text(st.characters(categories=("Cs", "Lu", "Po", "Cc")), max_size=MAX_CUTS))
def test_half_of_a_pair_is_replaced_and_nothing_else(text: str) -> None:
    """A text that JavaScript or Python has encoded is read as UTF-16 with U+FFFD in the place of each half."""
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert read_json(json.dumps(text).encode()) == whole


def test_a_cut_text_is_published() -> None:
    """Whole pairs, other escapes and a backslash before the same letters stay as they are."""
    sent = rb'"\ud83d\ude00 \\ud83d \n \ud83d"'
    assert commands(PUBLISH % sent) == [Publish("a", '"\U0001f600 \\\\ud83d \\n \ufffd"'.encode(), 1)]


def test_a_cut_text_in_a_list_leaves_the_other_commands() -> None:
    """Each is answered by its own id."""
    others = rb'{"type": "info", "channels": ["a"], "id": 2}, {"type": "subscribe", "channels": ["\uDE00"], "id": 3}'
    found = commands(b"[%b, %b]" % (PUBLISH % rb'"\ud83d"', others))
    assert found == [Publish("a", '"\ufffd"'.encode(), 1), Info(("a",), 2), Subscribe(("\ufffd",), 3)]


@pytest.mark.parametrize(
    "message",
    [
        rb'"\ud8"',
        rb'["\ud83d", NaN]',
        b'"' + rb"\ud83d" * (MAX_CUTS + 1) + b'"',
        b'"\0\0n ' + rb'\ud83d"',
    ],
)
def test_what_is_no_json_all_the_same_is_refused(message: bytes) -> None:
    """And more halves than the bound."""
    assert commands(PUBLISH % message) == NO_JSON


@pytest.mark.parametrize("data", [rb'{"text": "cut \ud83d"}', rb'"{\"text\": \"cut \\ud83d\"}"'])
def test_a_client_of_pusher_may_send_a_cut_text(data: bytes) -> None:
    """In an object, and in JSON in a text."""
    asked = read_text(b'{"event": "client-said", "channel": "private-a", "data": %b}' % data)
    assert isinstance(asked, Asked)
    fields = fields_in(asked.data)
    assert fields is not None
    assert json.loads(bytes(fields["text"])) == "cut \ufffd"
