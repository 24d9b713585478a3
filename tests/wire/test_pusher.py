"""Pusher's protocol: subscriptions, and what a line keeps to."""

import json
from typing import Any

import pytest
from tests.wire.pusher_client import (
    ANN,
    KEY,
    SECRET,
    SOCKET_ID,
    Client,
    auth,
    error,
    frames,
    refused,
    sign_in,
    subscribe,
)

from channelstream.apps.app import App
from channelstream.apps.pusher_app import PusherApp, PusherSecrets
from channelstream.close_codes import CloseCode
from channelstream.core.events import Message
from channelstream.core.pusher_signing import channel_text, signature
from channelstream.errors import Internal, Invalid, TooManyRequests, Unavailable
from channelstream.wire.client_commands import Done, Join, Joined, Leave
from channelstream.wire.client_session import NO_START, SessionStart
from channelstream.wire.framing import Framing
from channelstream.wire.protocols import PROTOCOLS
from channelstream.wire.pusher import PUSHER, PusherSession
from channelstream.wire.pusher_members import INFO_KEY as USER_INFO

STATE = {"name": "Ann", "age": 7, USER_INFO: '{"name":"Ann","age":7,"tags":["x"]}'}
"""That of the member whom `ANN` describes."""


def test_the_first_frame_has_the_socket_id() -> None:
    """It has the socket id, and a whole number as `activity_timeout`; `data` is text."""
    (frame,) = frames(Client().session.opened("a conn_id"))
    data = '{"socket_id":"12.34","activity_timeout":120}'
    assert frame == {"event": "pusher:connection_established", "data": data}


@pytest.mark.parametrize("data", [None, {}, "{}", "x", 1])
def test_a_ping_is_answered(data: Any) -> None:
    """Whatever its data is; a pong of the client is not."""
    client = Client()
    assert client.asks("pusher:ping", data) == [{"event": "pusher:pong", "data": "{}"}]
    assert client.sends('{"event":"pusher:ping"}') == [{"event": "pusher:pong", "data": "{}"}]
    assert client.asks("pusher:pong", data) == []


@pytest.mark.parametrize("channel", ["news", "a", "cache", "Ab-_=@,.;9", "x" * 200, "encrypted-private-a"])
def test_a_public_channel_needs_no_signature(channel: str) -> None:
    """Needs no signature, and ignores one."""
    client = Client()
    assert client.asks("pusher:subscribe", {"channel": channel, "auth": 7}) == Join(
        f"pusher/{channel}", channel
    )
    answer = {"event": "pusher_internal:subscription_succeeded", "channel": channel, "data": "{}"}
    assert subscribe(client, channel) == [answer]


def test_data_may_be_a_text_of_json() -> None:
    """Some clients send that."""
    join = Join("pusher/news", "news")
    assert Client().asks("pusher:subscribe", '{"channel":"news"}') == join


@pytest.mark.parametrize("channel_data", [None, ""])
def test_a_private_channel_needs_a_signature(channel_data: str | None) -> None:
    """Needs a signature; no data, null and an empty text are the same."""
    data = {"channel": "private-a", "auth": auth("private-a")}
    join = Join("pusher/private-a", "private-a", is_granted=True)
    assert Client().asks("pusher:subscribe", data) == join
    assert Client().asks("pusher:subscribe", data | {"channel_data": channel_data}) == join
    signed = {"channel": "private-a", "auth": auth("private-a", "x"), "channel_data": "x"}
    assert Client().asks("pusher:subscribe", signed) == join


def test_a_presence_channel_answers_with_its_members() -> None:
    """The member has a name and a state; the answer has all members, each with the JSON that it has of itself."""
    client = Client()
    data = {"channel": "presence-a", "auth": auth("presence-a", ANN), "channel_data": ANN}
    assert client.asks("pusher:subscribe", data) == Join(
        "pusher/presence-a", "presence-a", "ann", STATE, is_granted=True
    )
    members = {"ann": STATE, "bob": {USER_INFO: "null"}, "a native user": {"colour": "red"}, "cy": {}}
    (frame,) = subscribe(client, "presence-a", Joined(members), channel_data=ANN)
    assert json.loads(frame["data"]) == {
        "presence": {
            "ids": ["ann", "bob", "a native user", "cy"],
            "hash": {
                "ann": {"name": "Ann", "age": 7, "tags": ["x"]},
                "bob": None,
                "a native user": {"colour": "red"},
                "cy": None,
            },
            "count": 4,
        }
    }


@pytest.mark.parametrize(
    ("channel_data", "name", "info"),
    [
        ('{"user_id":7}', "7", "null"),
        ('{"user_id":"7","user_info":null}', "7", "null"),
        ('{"user_id":1.50,"user_info":"x"}', "1.50", '"x"'),
        ('{"user_id":"a\\u00e4","user_info":[1,\n 2]}', "aä", "[1,2]"),
        ('{"user_id":"%s"}' % ("x" * 128), "x" * 128, "null"),
        ('{"user_id":"a","user_info":"%s"}' % ("x" * 2046), "a", '"%s"' % ("x" * 2046)),
    ],
)
def test_names_and_infos_of_members(channel_data: str, name: str, info: str) -> None:
    """A number is the text of its digits; what a member has of itself is sent on as it came, on one line."""
    data = {"channel": "presence-a", "auth": auth("presence-a", channel_data), "channel_data": channel_data}
    join = Client().asks("pusher:subscribe", data)
    assert isinstance(join, Join)
    assert (join.member, join.member_state[USER_INFO]) == (name, info)


def test_a_member_with_very_many_values() -> None:
    """Native clients see none of them, as a state has a bound."""
    info = json.dumps({str(n): n for n in range(201)}, separators=(",", ":"))
    channel_data = json.dumps({"user_id": "a"})[:-1] + f',"user_info":{info}}}'
    data = {"channel": "presence-a", "auth": auth("presence-a", channel_data), "channel_data": channel_data}
    join = Client().asks("pusher:subscribe", data)
    assert isinstance(join, Join)
    assert join.member_state == {USER_INFO: info}


@pytest.mark.parametrize(
    "channel", ["cache-a", "private-cache-a", "presence-cache-a", "private-encrypted-cache-a"]
)
def test_a_cache_channel_sends_its_last_event(channel: str) -> None:
    """The last event follows the answer, or the word that there is none; nothing if the stream will send it."""
    more = {"channel_data": ANN} if channel.startswith("presence") else {}
    message = Message(
        uuid="u",
        channel=f"pusher/{channel}",
        user="",
        payload=b'{"event":"hi","data":{"n":1}}',
        timestamp="t",
    )
    _, last = subscribe(Client(), channel, Joined({}, message), **more)
    assert last == {"event": "hi", "channel": channel, "data": '{"n":1}'}
    assert len(subscribe(Client(), channel, Joined(), **more)) == 1
    _, last = subscribe(Client(), channel, Joined(misses_last=True), **more)
    assert last == {"event": "pusher:cache_miss", "channel": channel, "data": "{}"}


@pytest.mark.parametrize("shown", [None, 7, "", "x", f"{KEY}:", auth("private-b"), auth("private-a", ANN)])
def test_a_signature_that_is_none(shown: Any) -> None:
    """Of another channel, with other data, or none at all."""
    data = {"channel": "private-a", "auth": shown}
    assert refused(Client().asks("pusher:subscribe", data)) == ("private-a", "AuthError", 401)


@pytest.mark.parametrize("other", [{"secret": "x"}, {"socket_id": "12.35"}, {"key": "other"}])
def test_a_signature_of_something_else(other: dict[str, str]) -> None:
    """Of another secret, line or key."""
    text = channel_text(other.get("socket_id", SOCKET_ID), "private-a", None)
    shown = f"{other.get('key', KEY)}:{signature(other.get('secret', SECRET), text)}"
    data = {"channel": "private-a", "auth": shown}
    assert refused(Client().asks("pusher:subscribe", data)) == ("private-a", "AuthError", 401)


@pytest.mark.parametrize(
    "channel_data",
    [
        *(None, "", "x", "[]", "7", "{}", '{"user_id":null}', '{"user_id":true}', '{"user_id":""}'),
        *('{"user_id":["a"]}', '{"user_id":"%s"}' % ("x" * 129), '{"user_id":1e999}', "[" * 5000),
        '{"user_id":"a","user_info":"%s"}' % ("x" * 2047),
    ],
)
def test_a_faulty_member_is_refused(channel_data: str | None) -> None:
    """Signed, but no object with a name, or with too much of itself."""
    data = {"channel": "presence-a", "auth": auth("presence-a", channel_data), "channel_data": channel_data}
    assert refused(Client().asks("pusher:subscribe", data)) == ("presence-a", "AuthError", 401)


@pytest.mark.parametrize("channel_data", [7, {"user_id": "ann"}, [], False])
def test_channel_data_is_text(channel_data: Any) -> None:
    """An object cannot be signed as it was sent."""
    data = {"channel": "presence-a", "auth": auth("presence-a"), "channel_data": channel_data}
    assert refused(Client().asks("pusher:subscribe", data)) == ("presence-a", "AuthError", 401)


@pytest.mark.parametrize(
    "channel",
    ["", " ", "a b", "a/b", "ä", "x" * 201, "#", "#server-to-user-", "#server-to-user-ann", "#signed-in-a"],
)
def test_a_name_that_no_channel_has(channel: str) -> None:
    """The channel of a user is nobody else's."""
    answer = Client().asks("pusher:subscribe", {"channel": channel})
    assert refused(answer) == (channel, "InvalidChannel", 400)


@pytest.mark.parametrize(
    ("outcome", "kind", "status"),
    [
        (Invalid({"channels": ["too many"]}), "LimitReached", 400),
        (TooManyRequests("too many"), "LimitReached", 400),
        (Unavailable("later"), "ServerError", 503),
    ],
)
def test_a_subscription_that_fails(outcome: Any, kind: str, status: int) -> None:
    """The client may try again."""
    client = Client()
    assert refused(subscribe(client, "news", outcome)) == ("news", kind, status)
    assert isinstance(client.asks("pusher:subscribe", {"channel": "news"}), Join)


@pytest.mark.parametrize(
    "data", [None, 7, [], "x", '"x"', "[]", {}, {"channel": None}, {"channel": 7}, {"channel": ["a"]}]
)
def test_a_subscription_without_a_channel(data: Any) -> None:
    """Text in place of an object is what ends soketi 1.6.1."""
    client = Client()
    (answer,) = client.asks("pusher:subscribe", data)  # type: ignore[misc]
    assert answer == error("pusher:subscribe needs data with a channel, which is text.")
    (answer,) = client.asks("pusher:unsubscribe", data)  # type: ignore[misc]
    assert answer == error("This client is not subscribed to such a channel.")
    assert client.sends('{"event":"pusher:unsubscribe"}') == [answer]


def test_no_channel_is_subscribed_to_twice() -> None:
    """Until the client has left it."""
    client = Client()
    subscribe(client, "presence-a", channel_data=ANN)
    (answer,) = client.asks("pusher:subscribe", {"channel": "presence-a"})  # type: ignore[misc]
    assert answer == error("This client is subscribed to the channel already.")
    leave = client.asks("pusher:unsubscribe", {"channel": "presence-a"})
    assert leave == Leave("pusher/presence-a", "presence-a", "ann")
    assert client.does("pusher:unsubscribe", {"channel": "presence-a"}, Unavailable("later")) == [
        error("later")
    ]
    assert client.does("pusher:unsubscribe", {"channel": "presence-a"}, Done({})) == []
    (answer,) = client.asks("pusher:unsubscribe", {"channel": "presence-a"})  # type: ignore[misc]
    assert answer == error("This client is not subscribed to such a channel.")


# -- the line


@pytest.mark.parametrize(
    ("code", "sent"),
    [
        *((CloseCode.NORMAL, 4009), (CloseCode.TOKEN_EXPIRED, 4009), (CloseCode.UNKNOWN_CONNECTION, 4001)),
        *((CloseCode.RESTARTING, 4200), (CloseCode.OVERLOADED, 4100), (CloseCode.TOO_SLOW, 4100)),
        *((CloseCode.REPLACED, 4100), (CloseCode.POLICY_VIOLATION, 1008), (CloseCode.TOO_BIG, 1009)),
        *((CloseCode.UNSUPPORTED_DATA, 1003), (4201, 4201)),
    ],
)
def test_close_codes_are_those_that_clients_of_pusher_read(code: int, sent: int) -> None:
    """Those of this server as a client of Pusher reads them, others as they are; always with a reason."""
    assert frames(Client().session.closing(code, "a reason")) == [(sent, "a reason")]
    assert frames(Client().session.closing(int(code), "")) == [(sent, "closed")]


@pytest.mark.parametrize(
    ("code", "sent"), [(CloseCode.OVERLOADED, 4100), (4001, 4001), (4008, 4008), (4009, 4009)]
)
def test_close_codes_of_refusals(code: int, sent: int) -> None:
    """4008 is the absence of a version: a line that is not open is not too slow."""
    assert frames(PROTOCOLS.closing_of(PUSHER, code, "a reason")) == [(sent, "a reason")]


def test_a_close_without_a_code_has_no_reason() -> None:
    """Has no reason either (RFC 6455, 5.5.1)."""
    assert frames(Client().session.closing(None, "a reason")) == [(None, "")]
    assert frames(PROTOCOLS.closing_of(PUSHER, None, "a reason")) == [(None, "")]


@pytest.mark.parametrize(("activity_s", "silence_s"), [(120, 150), (1, 2), (30, 60)])
def test_silence_and_frames_of_a_line_are_bounded(activity_s: int, silence_s: float) -> None:
    """Silence has a bound; so have frames, which are more where clients may send more events."""
    app = PusherApp("4711", KEY, PusherSecrets(SECRET), activity_timeout_s=activity_s, client_events_per_s=50)
    rules = Client(app).session.rules
    assert rules.silence is not None
    assert rules.silence[:2] == (silence_s, 4201)
    assert (rules.frames, rules.frames_per_s, rules.takes_binary) == (1000, 50, False)


def test_another_process_continues_a_session() -> None:
    """With its line, channels and user."""
    client = Client()
    sign_in(client, '{"id":"ann","user_info":1}')
    subscribe(client, "presence-a", channel_data=ANN)
    subscribe(client, "news")
    start = SessionStart(
        App(pusher=PusherApp("4711", KEY, PusherSecrets(SECRET))), lambda: 0.0, client.session.state
    )
    session = PROTOCOLS.session_of(PUSHER, Framing.WEBSOCKET, lambda: start)
    assert isinstance(session, PusherSession)
    other = Client()
    other.session = session
    assert session.state == client.session.state
    leave = other.asks("pusher:unsubscribe", {"channel": "presence-a"})
    assert leave == Leave("pusher/presence-a", "presence-a", "ann")
    assert isinstance(other.asks("pusher:subscribe", {"channel": "#server-to-user-ann"}), Join)


@pytest.mark.parametrize(
    "start", [NO_START, SessionStart(App(pusher=PusherApp("1", "k", PusherSecrets("s"))), lambda: 0.0, b"x")]
)
def test_a_session_that_cannot_begin(start: SessionStart) -> None:
    """Its application does not speak the protocol, or what is left of it is no state."""
    with pytest.raises(ValueError):
        PROTOCOLS.session_of(PUSHER, Framing.WEBSOCKET, lambda: start)


def test_what_a_client_of_this_protocol_is_never_sent() -> None:
    """It does not resume, gets no heartbeats, and all writes together are one."""
    session = Client().session
    assert session.resumed("1", [], []) == session.heartbeat == b""
    assert session.joined([b"a", b"b"]) == b"ab"
    assert session.reply(Join("a", "a"), Internal()) != b""
