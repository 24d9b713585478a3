"""Commands of clients with tokens: what their texts mean, and how they are answered."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from channelstream.close_codes import CloseCode
from channelstream.core.entry import Entry
from channelstream.core.events import Message
from channelstream.errors import Forbidden, TooManyRequests, Unavailable
from channelstream.wire.channelstream import V07
from channelstream.wire.client_commands import (
    Done,
    Fail,
    Info,
    Joined,
    Publish,
    Refresh,
    Reply,
    SetState,
    Subscribe,
    Subscribed,
    Unsubscribe,
)
from channelstream.wire.command_texts import MAX_CHANNELS, Connect, Fault, read_command, read_commands
from channelstream.wire.commanding import COMMANDING, CommandSession, expiring_item, reply_items
from channelstream.wire.framing import Framing
from channelstream.wire.protocols import PROTOCOLS

UUID = "2f6b5c1e-96a5-4a0e-8a39-6fd0a0d8f3c4"
COMMANDS: list[tuple[dict[str, Any], Any]] = [
    ({"type": "subscribe", "channels": ["a", "b", "a"], "id": 1}, Subscribe(("a", "b"), 1)),
    ({"type": "subscribe", "channels": ["a"], "since": {"a": "e-1"}}, Subscribe(("a",), None, {"a": "e-1"})),
    ({"type": "unsubscribe", "channels": ["a"], "id": "x"}, Unsubscribe(("a",), "x")),
    ({"type": "publish", "channel": "a", "message": {"b": [1, None]}}, Publish("a", b'{"b":[1,null]}', None)),
    (
        {"type": "publish", "channel": "a", "message": "x", "uuid": UUID.upper(), "id": -1},
        Publish("a", b'"x"', -1, UUID),
    ),
    ({"type": "state", "user_state": {"a": None, "b": 1}, "id": 0}, SetState({"a": None, "b": 1}, 0)),
    ({"type": "info", "channels": ["a"], "id": 5}, Info(("a",), 5)),
    ({"type": "refresh", "token": "t", "id": 6}, Refresh("t", 6)),
]


def read(text: bytes) -> list[Any]:
    return list(read_commands(text))


@pytest.mark.parametrize(("sent", "command"), COMMANDS)
def test_a_command_is_read(sent: dict[str, Any], command: Any) -> None:
    """Alone, or as a list of one."""
    assert read(json.dumps(sent).encode()) == [command]
    assert read(json.dumps([sent], indent=1).encode()) == [command]


def test_what_no_command_of_this_protocol_has_as_its_outcome() -> None:
    """Is answered with nothing."""
    assert reply_items(1, Joined(), PROTOCOLS.format_of(COMMANDING, Framing.POLL)) == []


def test_the_commands_of_a_list_are_in_its_order() -> None:
    """Faults among them."""
    assert read(b'[{"type":"info","channels":["a"],"id":1},5,{"type":"refresh","token":"t","id":2}]') == [
        Info(("a",), 1),
        Fault(None, "invalid", "A command is an object."),
        Refresh("t", 2),
    ]
    assert read(b"[]") == []


@pytest.mark.parametrize("text", [b'{"type":"heartbeat"}', b'{"type":5}', b"{}", b'{"type":null,"x":1}'])
def test_what_older_clients_send_is_ignored(text: bytes) -> None:
    """An object that is no command, and that nobody waits for an answer to."""
    assert read(text) == []
    assert read_command(text) is None


@pytest.mark.parametrize(
    ("text", "ref", "code"),
    [
        (b"", None, "malformed"),
        (b"nonsense", None, "malformed"),
        (b"[1", None, "malformed"),
        (b"\xff", None, "malformed"),
        (b"[" * 100_000, None, "malformed"),
        (b'{"x":' * 100_000, None, "malformed"),
        (b"5", None, "invalid"),
        (b"null", None, "invalid"),
        (b'{"id":1}', 1, "invalid"),
        (b'{"id":1,"type":"jump"}', 1, "invalid"),
        (b'{"id":{},"type":"jump"}', None, "invalid"),
        (b'{"id":true,"type":"jump"}', None, "invalid"),
        (b'{"id":"x","type":"subscribe"}', "x", "invalid"),
        (b'{"id":9007199254740993,"type":"info","channels":["a"]}', None, "invalid"),
        (b'{"id":2,"type":"subscribe","channels":[]}', 2, "invalid"),
        (b'{"id":2,"type":"subscribe","channels":[""]}', 2, "invalid"),
        (b'{"id":2,"type":"publish","channel":"a"}', 2, "invalid"),
        (b'{"id":2,"type":"publish","channel":"a","message":1,"uuid":"x"}', 2, "invalid"),
        (b'{"id":2,"type":"publish","channel":"a","message":"\xff"}', 2, "invalid"),
        (b'{"id":2,"type":"refresh","token":""}', 2, "invalid"),
        (b'{"id":2,"type":"connect","token":"t"}', 2, "invalid"),
    ],
)
def test_a_faulty_text_is_a_fault(text: bytes, ref: Any, code: str) -> None:
    """With its id, if that can be repeated."""
    [fault] = read(text)
    assert (fault.ref, fault.code) == (ref, code)


def test_a_command_names_a_bounded_number_of_channels() -> None:
    """One more is a fault."""
    names = [str(number) for number in range(MAX_CHANNELS + 1)]
    for count, kind in ((MAX_CHANNELS, Subscribe), (MAX_CHANNELS + 1, Fault)):
        [found] = read(json.dumps({"type": "subscribe", "channels": names[:count]}).encode())
        assert isinstance(found, kind)


@given(st.binary() | st.text().map(str.encode))
def test_any_text_is_read(text: bytes) -> None:
    """It is commands, faults or nothing."""
    read(text)


PIECES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda each: st.lists(each, max_size=3),
    max_leaves=3,
)
TYPES = st.sampled_from(["connect", "subscribe", "unsubscribe", "publish", "state", "info", "refresh", "x"])
FIELDS = ("id", "channels", "channel", "message", "uuid", "since", "token", "user_state", "conn_id")
OBJECTS = st.fixed_dictionaries(
    {"type": TYPES},
    optional=dict.fromkeys(FIELDS, PIECES),
)


@given(st.lists(OBJECTS, max_size=3))
def test_any_object_is_read(objects: list[Any]) -> None:
    """Whatever its fields are, each is one command or one fault, and what is repeated can be encoded."""
    found = read(json.dumps(objects).encode())
    assert len(found) <= len(objects)
    for each in found:
        msgspec.json.encode(each.ref)


def test_connect_is_read_with_its_fields() -> None:
    """Only the token is needed."""
    assert read_command(b'{"type":"connect","token":"t"}') == Connect("t")
    text = b'{"type":"connect","token":"t","id":1,"conn_id":"c","since":"e-1"}'
    assert read_command(text) == Connect("t", 1, "c", "e-1")


# -- the session


def session(framing: Framing = Framing.POLL) -> CommandSession:
    made = PROTOCOLS.session_of(COMMANDING, framing)
    assert isinstance(made, CommandSession)
    return made


def test_answers_are_items() -> None:
    """Their golden bytes."""
    entry = Entry(7, ("e",), 0.0, Message(uuid="m", channel="a", user="ann", payload=b"1", timestamp="t"))
    left = Entry(8, ("e",), 0.0, Message(uuid="n", channel="a", user="ann", payload=b"2", timestamp="t"))
    own, command = session(), Subscribe(("a",), 1)
    assert own.reply(command, Subscribed(("a",), ("a", "b"))) == (
        b'[{"type":"reply","id":1,"result":{"channels":["a","b"],"subscribed":["a"]}}]'
    )
    assert own.reply(command, Subscribed(("a",), ("a",), ("a",), ("b",), (entry, left))) == (
        b'[{"type":"reply","id":1,"result":{"channels":["a"],"subscribed":["a"],"recovered":["a"],"lost":["b"]}},'
        + b",".join(filter(None, map(own.format.item, (entry, left))))
        + b"]"
    )
    assert own.reply(Info(("a",), None), Done({"x": 1})) == b'[{"type":"reply","id":null,"result":{"x":1}}]'
    assert own.reply(Refresh("t", "r"), Done({}, ("a",))) == (
        b'[{"type":"unsubscribed","channels":["a"],"reason":"no longer granted"},'
        b'{"type":"reply","id":"r","result":{}}]'
    )
    assert own.reply(command, Forbidden("No.")) == (
        b'[{"type":"reply","id":1,"error":{"code":"forbidden","message":"No."}}]'
    )
    assert own.reply(command, TooManyRequests("Slow.", 7)) == (
        b'[{"type":"reply","id":1,"error":{"code":"rate_limited","message":"Slow.","retry_after":7}}]'
    )
    assert own.reply(command, Unavailable("Later.", 1)) == (
        b'[{"type":"reply","id":1,"error":{"code":"unavailable","message":"Later.","retry_after":1}}]'
    )
    assert expiring_item(25) == b'{"type":"expiring","seconds":25}'


def test_faults_are_answered_until_they_are_too_many() -> None:
    """Then the stream is closed."""
    own = session()
    own.max_faults = 1
    [first] = own.receive(b'{"type":"info","id":4}')
    assert isinstance(first, Reply)
    assert json.loads(first.data)[0]["id"] == 4
    assert list(own.receive(b'{"type":"info","channels":["a"],"id":4}')) == [Info(("a",), 4)]
    _, fail = own.receive(b"x")
    assert fail == Fail(CloseCode.POLICY_VIOLATION, "too many faulty commands")


@pytest.mark.parametrize("framing", Framing)
def test_all_else_is_as_for_a_client_of_0_7(framing: Framing) -> None:
    """The same bytes, so that an event is encoded once for both."""
    own, older = session(framing), PROTOCOLS.session_of(V07, framing)
    entry = Entry(7, ("e",), 0.0, Message(uuid="m", channel="a", user="ann", payload=b"1", timestamp="t"))
    assert own.format is older.format
    assert own.heartbeat == older.heartbeat
    assert own.resumed("e-7", ["a"], []) == older.resumed("e-7", ["a"], [])
    assert own.catchup_item(entry) == older.catchup_item(entry)
    assert own.closing(4003, "x") == older.closing(4003, "x")
    writes = [own.format.enclose([b"1"], None), own.format.enclose([b"2"], None)]
    assert own.joined(writes) == older.joined(writes)
    assert own.opened("c") == b""
    own.greeting = [b"{}", b"[]"]
    assert own.opened("c") == own.format.enclose([b"{}", b"[]"], None)
