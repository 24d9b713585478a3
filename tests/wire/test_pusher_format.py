"""How events become frames of Pusher's protocol."""

import json
from typing import Any

import pytest
from tests.wire.pusher_client import Client, frames

from channelstream.apps.app import App
from channelstream.core.entry import Entry
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
from channelstream.wire.framing import DEFLATE_FROM_BYTES, Framing
from channelstream.wire.protocols import PROTOCOLS
from channelstream.wire.pusher import PUSHER
from channelstream.wire.pusher_members import INFO_KEY
from channelstream.wire.pusher_payload import PusherEvent, payload_of

FORMAT = PROTOCOLS.format_of(PUSHER, Framing.WEBSOCKET)
SHOP = App("shop")


def entry(event: Event) -> Entry:
    return Entry(7, ("e",), 0.0, event)


def message(payload: bytes, channel: str | None = "pusher/news", user: str = "") -> Message:
    return Message(uuid="u", channel=channel, user=user, payload=payload, timestamp="t")


def sent(event: Event) -> list[Any]:
    item = FORMAT.item(entry(event))
    return [] if item is None else frames(FORMAT.enclose([item], "e-7"))


@pytest.mark.parametrize("prefix", ["pusher/", "a/b/", ""])
@pytest.mark.parametrize(
    "channel",
    ["news", "#server-to-user-ann", "#server-to-user-a/private-b", "#server-to-user-/#server-to-user-/"],
)
def test_the_name_of_a_channel_is_that_of_its_clients(channel: str, prefix: str) -> None:
    """Whatever the prefix is; the id of a user may have slashes, and is no name of another channel."""
    (frame,) = sent(message(payload_of(PusherEvent("hi", "7")), f"{prefix}{channel}"))
    assert frame["channel"] == channel


@pytest.mark.parametrize("data", ['{"n": 1}', "hello", '"hello"', "", "7", "ä"])
def test_an_event_of_a_server_has_its_text(data: str) -> None:
    """Its data is a text, exactly as it was triggered, JSON or not."""
    payload = payload_of(PusherEvent("hi", data))
    assert sent(message(payload)) == [{"event": "hi", "channel": "news", "data": data}]


@pytest.mark.parametrize("data", ['{"n":1}', '"hello"', "null"])
def test_an_event_of_a_client_has_its_data(data: str) -> None:
    """Its data is what it was; who has sent it is said in presence channels only."""
    payload = payload_of(PusherEvent("client-hi", data, is_client=True))
    event = {"event": "client-hi", "channel": "private-a", "data": json.loads(data)}
    assert sent(message(payload, "pusher/private-a", "ann")) == [event]
    member = {**event, "channel": "presence-a", "user_id": "ann"}
    assert sent(message(payload, "pusher/presence-a", "ann")) == [member]


@pytest.mark.parametrize(
    "payload", [b'{"text": "hi"}', b'"hi"', b"null", b'{"event":"pusher:error","data":1}']
)
def test_a_message_of_this_server(payload: bytes) -> None:
    """Is the event `message` with its payload as text; none passes for an event of the protocol."""
    assert sent(message(payload)) == [{"event": "message", "channel": "news", "data": payload.decode()}]


def test_the_name_of_a_channel_is_without_its_prefix() -> None:
    """Whatever the prefix is, and whichever application has the channel."""
    payload = payload_of(PusherEvent("hi", ""))
    for channel in ("news", "pusher/news", "a/b/news", SHOP.key("pusher/news")):
        assert sent(message(payload, channel))[0]["channel"] == "news"


def test_edits_and_deletions_have_all_of_the_native_items() -> None:
    """They have what the native items have."""
    edit = MessageEdited(uuid="u", channel="pusher/news", edited="now")
    (frame,) = sent(edit)
    assert frame == {"event": "message:edit", "channel": "news", "data": '{"uuid":"u","edited":"now"}'}
    edit = MessageEdited(
        uuid="u", channel="pusher/news", edited="now", user=SHOP.key("ann"), payload=b'{"a":1}', timestamp="t"
    )
    (frame,) = sent(edit)
    whole = {"uuid": "u", "edited": "now", "user": "ann", "timestamp": "t", "message": {"a": 1}}
    assert json.loads(frame["data"]) == whole
    (frame,) = sent(MessageDeleted(uuid="u", channel="pusher/news"))
    assert frame == {"event": "message:delete", "channel": "news", "data": '{"uuid":"u"}'}


def joined(state: dict[str, Any], channel: str = "pusher/presence-a") -> Presence:
    return Presence(uuid="u", channel=channel, user=SHOP.key("ann"), joined=True, timestamp="t", state=state)


@pytest.mark.parametrize(
    ("state", "info"),
    [({INFO_KEY: '{"a":[1]}', "a": 1}, {"a": [1]}), ({"colour": "red"}, {"colour": "red"}), ({}, None)],
)
def test_a_member_joins(state: dict[str, Any], info: Any) -> None:
    """With the JSON that it has of itself; of a user of this server that is the public state."""
    (frame,) = sent(joined(state))
    assert (frame["event"], frame["channel"]) == ("pusher_internal:member_added", "presence-a")
    assert json.loads(frame["data"]) == {"user_id": "ann", "user_info": info}


def test_members_leave_one_by_one_or_together() -> None:
    """One by one, or several in one event."""
    removed = {"event": "pusher_internal:member_removed", "channel": "presence-a"}
    left = Presence(
        uuid="u", channel="pusher/presence-a", user="ann", joined=False, timestamp="t", state=None
    )
    assert sent(left) == [removed | {"data": '{"user_id":"ann"}'}]
    both = UsersLeft(
        uuid="u",
        channel="pusher/presence-a",
        departures=(UserLeft("ann", "v", 1), UserLeft("bob", "w", 0)),
        timestamp="t",
    )
    assert sent(both) == [removed | {"data": f'{{"user_id":"{name}"}}'} for name in ("ann", "bob")]


def test_private_messages_and_states_are_not_sent() -> None:
    """Private messages, states, and who is in a channel that has no members."""
    state = {"state": {}, "changed": ()}
    changed = UserStateChanged(uuid="u", channel="pusher/presence-a", user="ann", timestamp="t", **state)  # type: ignore[arg-type]
    left = UsersLeft(uuid="u", channel="pusher/news", departures=(UserLeft("ann", "v", 0),), timestamp="t")
    for event in (changed, left, joined({}, "pusher/news"), message(b"1", None)):
        assert FORMAT.item(entry(event)) is None


def test_several_events_are_several_frames_of_one_write() -> None:
    """Each is made once for all clients of a framing."""
    entries = [entry(message(payload_of(PusherEvent(name, "")))) for name in ("a", "b")]
    data = FORMAT.enclose([FORMAT.item(each) or b"" for each in entries], "e-7")
    assert [frame["event"] for frame in frames(data)] == ["a", "b"]
    assert FORMAT.item(entries[0]) is FORMAT.item(entries[0])


def test_long_events_are_compressed_where_that_was_agreed() -> None:
    """A frame of its own for each, so that the client can read it alone."""
    deflated = PROTOCOLS.format_of(PUSHER, Framing.DEFLATE)
    event = entry(message(payload_of(PusherEvent("hi", "x" * 10 * DEFLATE_FROM_BYTES))))
    item, plain = deflated.item(event), FORMAT.item(event)
    assert item is not None
    assert plain is not None
    assert len(item) < len(plain) / 5
    assert frames(item) == frames(plain)
    assert deflated.name != FORMAT.name
    assert Client(framing=Framing.DEFLATE).session.catchup_item(event) == item
