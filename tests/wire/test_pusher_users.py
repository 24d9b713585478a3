"""Pusher's protocol: clients that sign in as users."""

import json
from typing import Any

import pytest
from tests.wire.pusher_client import SECRET, SOCKET_ID, Client, auth, error, refused, sign_in, user_auth

from channelstream.core.pusher_signing import signature, user_text
from channelstream.errors import Unavailable
from channelstream.wire.client_commands import Join, SignIn
from channelstream.wire.pusher_members import INFO_KEY as USER_INFO


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
def test_a_faulty_user_is_refused(user_data: str) -> None:
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


def test_a_failed_sign_in_names_nobody() -> None:
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
