"""Pusher's protocol: what a client's texts mean, and what it is answered."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.wire.pusher_client import KEY, SECRET, SOCKET_ID, Client, auth, frames, user_auth

from channelstream.apps.app import App
from channelstream.apps.pusher_app import PusherApp, PusherSecrets
from channelstream.close_codes import CloseCode
from channelstream.core.events import Message
from channelstream.core.pusher_signing import channel_text, signature, user_text
from channelstream.errors import Internal, Invalid, TooManyRequests, Unavailable
from channelstream.wire.client_commands import Done, Join, Joined, Leave, Relay, SignIn
from channelstream.wire.client_session import NO_START, SessionStart
from channelstream.wire.framing import Framing
from channelstream.wire.protocols import PROTOCOLS
from channelstream.wire.pusher import PUSHER, PusherSession
from channelstream.wire.pusher_members import INFO_KEY as USER_INFO

ANN = '{"user_id":"ann","user_info":{"name":"Ann","age":7,"tags":["x"]}}'
STATE = {"name": "Ann", "age": 7, USER_INFO: '{"name":"Ann","age":7,"tags":["x"]}'}
"""That of the member whom `ANN` describes."""


def error(message: Any = None, code: int | None = None) -> dict[str, Any]:
    return {"event": "pusher:error", "data": {"code": code, "message": message}}


def refused(answer: Any) -> tuple[str, str, int]:
    """Return channel, type and status of a refused subscription; the client is sent both forms of it."""
    first, second = answer
    data = json.loads(first["data"])
    assert first["event"] == "pusher:subscription_error"
    assert second == error(data["error"])
    return first["channel"], data["type"], data["status"]


def subscribe(client: Client, channel: str, outcome: Any = None, **more: Any) -> list[Any]:
    """Subscribe to a channel, with the signature that it needs."""
    data = {"channel": channel, **more}
    if channel.startswith(("private-", "presence-")):
        data["auth"] = auth(channel, more.get("channel_data"))
    return client.does("pusher:subscribe", data, outcome or Joined())


def test_the_first_frame() -> None:
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
def test_a_public_channel(channel: str) -> None:
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
def test_a_private_channel(channel_data: str | None) -> None:
    """Needs a signature; no data, null and an empty text are the same."""
    data = {"channel": "private-a", "auth": auth("private-a")}
    join = Join("pusher/private-a", "private-a", is_granted=True)
    assert Client().asks("pusher:subscribe", data) == join
    assert Client().asks("pusher:subscribe", data | {"channel_data": channel_data}) == join
    signed = {"channel": "private-a", "auth": auth("private-a", "x"), "channel_data": "x"}
    assert Client().asks("pusher:subscribe", signed) == join


def test_a_presence_channel() -> None:
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
def test_a_cache_channel(channel: str) -> None:
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
def test_a_member_that_is_none(channel_data: str | None) -> None:
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


# -- events of clients


@pytest.mark.parametrize("data", ['{"n": 1}', '"text"', "null", "[1,2]", "12345678901234567890"])
def test_an_event_of_a_client(data: str) -> None:
    """Its data is sent on as it came, and reported to webhooks as text; a name that it gives itself is ignored."""
    client = Client()
    subscribe(client, "presence-a", channel_data=ANN)
    text = f'{{"event":"client-hi","channel":"presence-a","user_id":"bob","data":{data}}}'
    payload = f'{{"event":"client-hi","data":{data},"client":true}}'.encode()
    shown = "text" if data == '"text"' else data
    reported = {"event": "client-hi", "data": shown, "socket": SOCKET_ID}
    assert client.sends(text) == Relay("pusher/presence-a", payload, "presence-a", "ann", **reported)


def test_an_event_without_data_or_on_several_lines() -> None:
    """Data is null, and on one line: an event stream could not have another."""
    client = Client()
    subscribe(client, "private-a")
    relay = client.sends('{"event":"client-hi","channel":"private-a"}')
    assert isinstance(relay, Relay)
    assert (relay.payload, relay.data) == (b'{"event":"client-hi","data":null,"client":true}', "null")
    relay = client.sends('{"event":"client-hi","channel":"private-a","data":{\r\n"n":1}}')
    assert isinstance(relay, Relay)
    assert relay.payload == b'{"event":"client-hi","data":{"n":1},"client":true}'


def test_a_cache_channel_never_keeps_events_of_clients() -> None:
    """Only those that servers trigger."""
    client = Client()
    subscribe(client, "private-cache-a")
    relay = client.asks("client-hi", 1, channel="private-cache-a")
    assert isinstance(relay, Relay)
    assert not relay.is_kept


@pytest.mark.parametrize(
    ("event", "channel", "data"),
    [
        ("client-hi", "news", 1),
        ("client-hi", "private-b", 1),
        ("client-hi", None, 1),
        ("client-hi", 7, 1),
        ("client-" + "x" * 194, "private-a", 1),
        ("client-hi", "private-a", "x" * 10_239),
        ("hi", "private-a", 1),
        ("pusher:hi", "private-a", 1),
        ("pusher_internal:member_added", "private-a", 1),
        ("", "private-a", 1),
    ],
)
def test_an_event_that_is_not_relayed(event: str, channel: Any, data: Any) -> None:
    """Each is answered with an error without a code, which no client takes for the end of the line."""
    client = Client()
    subscribe(client, "private-a")
    subscribe(client, "news")
    (answer,) = client.asks(event, data, channel=channel)  # type: ignore[misc]
    assert answer == error(answer["data"]["message"])
    assert isinstance(client.asks("client-hi", "x" * 10_238, channel="private-a"), Relay)


@pytest.mark.parametrize(
    "data", ["[" * 201 + "]" * 201, '{"a":' * 201 + "1" + "}" * 201, "[" * 4_000 + "]" * 4_000, "1e999"]
)
def test_data_that_other_programs_could_not_read(data: str) -> None:
    """It nests too deep, or has a number that is none."""
    client = Client()
    subscribe(client, "private-a")
    (answer,) = client.sends(f'{{"event":"client-hi","channel":"private-a","data":{data}}}')  # type: ignore[misc]
    assert answer == error(answer["data"]["message"])


@pytest.mark.parametrize(
    "data", ["[" * 200 + "]" * 200, "[" + "[],{}," * 150 + "[]]", '["%s"]' % ("[" * 300)]
)
def test_data_with_very_many_brackets(data: str) -> None:
    """Side by side they are no nesting, and in texts they are none."""
    client = Client()
    subscribe(client, "private-a")
    text = f'{{"event":"client-hi","channel":"private-a","data":{data}}}'
    assert isinstance(client.sends(text), Relay)


@pytest.mark.parametrize("data", ["1e999", "[" * 50_000 + "]" * 50_000])
def test_fields_that_are_no_text(data: str) -> None:
    """Whatever they are."""
    for text in (f'{{"event":{data}}}', f'{{"event":"pusher:subscribe","data":{data}}}'):
        (answer,) = Client().sends(text)  # type: ignore[misc]
        assert answer == error(answer["data"]["message"])


def test_events_of_clients_can_be_switched_off() -> None:
    client = Client(PusherApp("4711", KEY, PusherSecrets(SECRET), client_events=False))
    subscribe(client, "private-a")
    assert client.asks("client-hi", 1, channel="private-a") == [error("Events of clients are switched off.")]


def test_a_client_may_send_ten_events_at_once() -> None:
    """And ten a second on average; faulty ones do not count, and other commands neither."""
    client = Client()
    subscribe(client, "private-a")
    for _ in range(10):
        assert isinstance(client.asks("client-hi", 1, channel="private-a"), Relay)
        assert client.asks("client-hi", 1, channel="private-b") != []
    too_many = [error("This client sends too many events.", 4301)]
    assert client.asks("client-hi", 1, channel="private-a") == too_many
    client.now_s += 0.125
    assert isinstance(client.asks("client-hi", 1, channel="private-a"), Relay)
    assert client.asks("client-hi", 1, channel="private-a") == too_many


def test_what_became_of_an_event() -> None:
    """It is answered only if it failed."""
    client = Client()
    subscribe(client, "private-a")
    event: Any = ("client-hi", 1)
    assert client.does(*event, Done({}), channel="private-a") == []
    assert client.does(*event, TooManyRequests("later"), channel="private-a") == [error("later", 4301)]
    assert client.does(*event, Unavailable("later"), channel="private-a") == [error("later")]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "[]",
        "7",
        "null",
        '"x"',
        "{",
        "{}",
        '{"event":7}',
        '{"event":null}',
        '[{"event":"x"}]',
        "[" * 50_000,
    ],
)
def test_a_text_that_is_no_event(text: str) -> None:
    """A list is none: one event has one text."""
    (answer,) = Client().sends(text)  # type: ignore[misc]
    assert answer == error(answer["data"]["message"])


@given(st.binary(max_size=60) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(["pusher:subscribe", "client-a", "presence-a"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["event", "data", "channel", "auth", "channel_data", "user_data"]), inner, max_size=4),
    max_leaves=8,
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_no_text_is_too_odd(text: bytes) -> None:
    """Each is answered, or asks for something; none raises."""
    answer = Client().sends(text)
    assert isinstance(answer, list | Join)


# -- users


def sign_in(client: Client, user_data: str = '{"id":"ann"}', outcome: Any = None) -> list[Any]:
    data = {"auth": user_auth(user_data), "user_data": user_data}
    return client.does("pusher:signin", data, outcome or Done({}))


def test_a_user_signs_in() -> None:
    """The answer has the data as it was sent; to do it again changes nothing."""
    client = Client()
    user_data = '{ "id": "ann","user_info":{"a":1}}'
    success = {
        "event": "pusher:signin_success",
        "data": json.dumps({"user_data": user_data}, separators=(",", ":")),
    }
    data = {"auth": user_auth(user_data), "user_data": user_data}
    assert client.asks("pusher:signin", data) == SignIn("pusher/#signed-in-ann", user_data)
    assert sign_in(client, user_data) == [success]
    assert sign_in(client, user_data) == [success]


@pytest.mark.parametrize(
    "user_data", ["", "x", "[]", "{}", '{"id":""}', '{"id":7}', '{"id":null}', '{"id":"%s"}' % ("x" * 129)]
)
def test_a_user_that_is_none(user_data: str) -> None:
    """Signed, but no object with an id that is text."""
    data = {"auth": user_auth(user_data), "user_data": user_data}
    message = "user_data is not the JSON of an object with an id, which is text."
    assert Client().asks("pusher:signin", data) == [error(message, 4009)]


@pytest.mark.parametrize(
    "data",
    [
        *(None, "x", {}, {"auth": 7, "user_data": 7}, {"user_data": '{"id":"ann"}'}),
        {"auth": user_auth('{"id":"bob"}'), "user_data": '{"id":"ann"}'},
        {"auth": user_auth('{"id":"ann"}', "other"), "user_data": '{"id":"ann"}'},
        {"auth": f"other:{signature(SECRET, user_text(SOCKET_ID, '{}'))}", "user_data": "{}"},
    ],
)
def test_a_user_without_a_signature(data: Any) -> None:
    """The line stays open."""
    message = "The signature is not that of this user, socket and key."
    assert Client().asks("pusher:signin", data) == [error(message, 4009)]


def test_nobody_signs_in_as_somebody_else() -> None:
    client = Client()
    sign_in(client)
    other = '{"id":"bob"}'
    data = {"auth": user_auth(other), "user_data": other}
    message = "This client has signed in as somebody else."
    assert client.asks("pusher:signin", data) == [error(message, 4009)]


def test_a_sign_in_that_fails() -> None:
    """The client is nobody then."""
    client = Client()
    assert sign_in(client, outcome=Unavailable("later")) == [error("later", 4009)]
    assert refused(client.asks("pusher:subscribe", {"channel": "#server-to-user-ann"}))[1] == "InvalidChannel"


def test_a_user_has_a_channel() -> None:
    """Without a signature, and nobody else's."""
    client = Client()
    sign_in(client)
    channel = "#server-to-user-ann"
    assert client.asks("pusher:subscribe", {"channel": channel}) == Join(
        f"pusher/{channel}", channel, is_granted=True
    )
    assert refused(client.asks("pusher:subscribe", {"channel": channel + "e"}))[1] == "InvalidChannel"


def test_a_user_joins_a_presence_channel() -> None:
    """As what it has signed in as, unless it says otherwise."""
    client = Client()
    sign_in(client, '{"id":"ann","user_info":{"a":1}}')
    data = {"channel": "presence-a", "auth": auth("presence-a")}
    state = {"a": 1, USER_INFO: '{"a":1}'}
    assert client.asks("pusher:subscribe", data) == Join(
        "pusher/presence-a", "presence-a", "ann", state, is_granted=True
    )
    bob = '{"user_id":"bob"}'
    data = {"channel": "presence-a", "auth": auth("presence-a", bob), "channel_data": bob}
    join = client.asks("pusher:subscribe", data)
    assert join == Join("pusher/presence-a", "presence-a", "bob", {USER_INFO: "null"}, is_granted=True)


def test_a_user_with_too_much_of_itself() -> None:
    """May sign in, and joins no presence channel so."""
    client = Client()
    sign_in(client, '{"id":"ann","user_info":"%s"}' % ("x" * 2047))
    data = {"channel": "presence-a", "auth": auth("presence-a")}
    assert refused(client.asks("pusher:subscribe", data)) == ("presence-a", "AuthError", 401)


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


def test_a_close_without_a_code() -> None:
    """Has no reason either (RFC 6455, 5.5.1)."""
    assert frames(Client().session.closing(None, "a reason")) == [(None, "")]
    assert frames(PROTOCOLS.closing_of(PUSHER, None, "a reason")) == [(None, "")]


@pytest.mark.parametrize(("activity_s", "silence_s"), [(120, 150), (1, 2), (30, 60)])
def test_what_a_line_keeps_to(activity_s: int, silence_s: float) -> None:
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
