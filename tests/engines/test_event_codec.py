"""The form in which engines store events: stored bytes are read by every later version."""

from typing import get_args

import pytest

from channelstream.core.events import (
    Event,
    Message,
    MessageDeleted,
    MessageEdited,
    Presence,
    UserLeft,
    UsersLeft,
    UserStateChanged,
)
from channelstream.engines import event_codec

MESSAGE = Message(
    uuid="m", channel="a", exclude=frozenset({"ann"}), user="bob", payload=b'{"n":1.0}', timestamp="t"
)
PRESENCE = Presence(uuid="p", channel="a", user="ann", joined=True, timestamp="t", state={"x": 1})
STATE = UserStateChanged(
    uuid="s", channel="a", user="ann", timestamp="t", state={"x": 1}, changed=(("x", 1),)
)
STORED: list[tuple[Event, str, bytes, bytes | None]] = [
    (
        MESSAGE,
        "message",
        b'{"kind":"message","uuid":"m","channel":"a","exclude":["ann"],"user":"bob","payload":"","timestamp":"t"}',
        b'{"n":1.0}',
    ),
    (
        Message(uuid="m", channel="a", user="bob", payload=b"1", timestamp="t", traceparent="00-1-2-01"),
        "message",
        b'{"kind":"message","uuid":"m","channel":"a","user":"bob","payload":"","timestamp":"t","traceparent":"00-1-2-01"}',
        b"1",
    ),
    (
        Message(uuid="m", channel="a", user="", payload=b"1", timestamp="t", exclude_connection="c"),
        "message",
        b'{"kind":"message","uuid":"m","channel":"a","user":"","payload":"","timestamp":"t","exclude_connection":"c"}',
        b"1",
    ),
    (
        MessageEdited(uuid="m", channel="a", edited="t", payload=b'"ho"'),
        "edit",
        b'{"kind":"edit","uuid":"m","channel":"a","edited":"t","payload":""}',
        b'"ho"',
    ),
    (
        MessageEdited(uuid="m", only=frozenset({"ann"}), edited="t", user="bob"),
        "edit",
        b'{"kind":"edit","uuid":"m","only":["ann"],"edited":"t","user":"bob"}',
        None,
    ),
    (
        MessageEdited(uuid="m", channel="a", edited="t", user="bob", early=True),
        "edit",
        b'{"kind":"edit","uuid":"m","channel":"a","edited":"t","user":"bob","early":true}',
        None,
    ),
    (
        MessageDeleted(uuid="m", channel="a"),
        "delete",
        b'{"kind":"delete","uuid":"m","channel":"a"}',
        None,
    ),
    (
        PRESENCE,
        "presence",
        b'{"kind":"presence","uuid":"p","channel":"a","user":"ann","joined":true,"timestamp":"t","state":{"x":1}}',
        None,
    ),
    (
        UsersLeft(uuid="p", channel="a", timestamp="t", departures=(UserLeft("ann", "p", 0),)),
        "parted",
        b'{"kind":"parted","uuid":"p","channel":"a","gone":[{"user":"ann","uuid":"p","back":0}],"timestamp":"t"}',
        None,
    ),
    (
        STATE,
        "state",
        b'{"kind":"state","uuid":"s","channel":"a","user":"ann","timestamp":"t","state":{"x":1},'
        b'"changed":[["x",1]]}',
        None,
    ),
]
"""Each event with its kind, body and payload."""
OLDER: list[tuple[Event, str, bytes, bytes | None]] = [
    (
        MESSAGE,
        "message",
        b'{"uuid":"m","channel":"a","only":null,"exclude":["ann"],"user":"bob","payload":"","timestamp":"t",'
        b'"edited":null,"no_history":false}',
        b'{"n":1.0}',
    ),
    (
        MessageEdited(uuid="m", channel="a", edited="t"),
        "edit",
        b'{"uuid":"m","channel":"a","only":null,"exclude":null,"edited":"t","user":null,"payload":null,"timestamp":null}',
        None,
    ),
    (
        MessageDeleted(uuid="m", channel="a"),
        "delete",
        b'{"uuid":"m","channel":"a","only":null,"exclude":null}',
        None,
    ),
    (
        PRESENCE,
        "presence",
        b'{"uuid":"p","channel":"a","only":null,"exclude":null,"user":"ann","joined":true,"timestamp":"t",'
        b'"state":{"x":1},"users":[],"users_cut":false,"announced":true}',
        None,
    ),
    (
        UsersLeft(uuid="p", channel="a", timestamp="t", departures=(UserLeft("ann", "p", 0),)),
        "parted",
        b'{"uuid":"p","channel":"a","only":null,"exclude":null,"gone":[{"user":"ann","uuid":"p","back":0}],'
        b'"timestamp":"t","users":[],"users_cut":false,"announced":true}',
        None,
    ),
    (
        STATE,
        "state",
        b'{"uuid":"s","channel":"a","only":null,"exclude":null,"user":"ann","timestamp":"t","state":{"x":1},'
        b'"changed":[["x",1]]}',
        None,
    ),
]
"""As SQLite files have them that were written while the kind was in its column only."""


@pytest.mark.parametrize(("event", "kind", "body", "payload"), STORED)
def test_an_event_has_one_stored_form(event: Event, kind: str, body: bytes, payload: bytes | None) -> None:
    assert event_codec.kind_of(event) == kind
    assert event_codec.encode(event) == (body, payload)
    assert event_codec.decode(body, payload) == event
    assert event_codec.decode(body, payload, kind) == event


@pytest.mark.parametrize(("event", "kind", "body", "payload"), OLDER)
def test_bodies_without_a_kind_are_read(event: Event, kind: str, body: bytes, payload: bytes | None) -> None:
    assert event_codec.decode(body, payload, kind) == event


def test_every_type_of_event_has_stored_forms() -> None:
    for forms in (STORED, OLDER):
        assert {type(event) for event, *_ in forms} == set(get_args(Event))


@pytest.mark.parametrize(("event", "kind", "body", "payload"), STORED)
def test_fields_join_to_the_same_event(event: Event, kind: str, body: bytes, payload: bytes | None) -> None:
    fields = event_codec.fields_of(body)
    assert bytes(fields["kind"]) == b'"%b"' % kind.encode()
    backwards = dict(reversed(fields.items()))
    assert event_codec.decode(event_codec.join(backwards), payload) == event


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"{}", None),
        (b'{"kind":"poll","uuid":"m"}', None),
        (b'{"kind":"delete"}', None),
        (b'{"kind":"delete","uuid":"m"}', "message"),
        (b'{"uuid":"m"}', "poll"),
        (b"\xff", "delete"),
        (b"", "delete"),
    ],
)
def test_what_is_no_known_event_is_unreadable(body: bytes, kind: str | None) -> None:
    named = "an event" if kind is None else f"an event of kind '{kind}'"
    sentence = f"^{named} that this version of channelstream cannot read"
    with pytest.raises(event_codec.UnreadableEvent, match=sentence):
        event_codec.decode(body, None, kind)


def test_a_payload_is_never_parsed() -> None:
    """Its numbers keep their form, and a text that looks like base64 stays a text."""
    for payload in (b"1.0", b"1e400", b'"aGk="', b'{"a":[]}'):
        event = Message(uuid="m", channel="a", user="ann", payload=payload, timestamp="t")
        assert event_codec.decode(*event_codec.encode(event)) == event
