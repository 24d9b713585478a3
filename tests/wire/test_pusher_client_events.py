"""Pusher's protocol: the events that clients send to each other, and texts that are none."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.wire.pusher_client import ANN, KEY, SECRET, SOCKET_ID, Client, error, subscribe

from channelstream.apps.pusher_app import PusherApp, PusherSecrets
from channelstream.errors import TooManyRequests, Unavailable
from channelstream.wire.client_commands import Done, Join, Relay


@pytest.mark.parametrize("data", ['{"n": 1}', '"text"', "null", "[1,2]", "12345678901234567890"])
def test_an_event_of_a_client_is_sent_on_as_it_came(data: str) -> None:
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
        ("client-hi", "private-a", "x" * 10_241),
        ("client-hi", "private-a", "é" * 5_121),
        ("client-hi", "private-a", ["x" * 10_237]),
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


@pytest.mark.parametrize("data", ["x" * 10_240, "é" * 5_120, '"' * 10_240, ["x" * 10_236]])
def test_the_length_of_data_counts_without_escapes(data: Any) -> None:
    """A text counts as what it stands for, as in calls of servers: quotes around it and escapes do not count."""
    client = Client()
    subscribe(client, "private-a")
    assert isinstance(client.asks("client-hi", data, channel="private-a"), Relay)


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
