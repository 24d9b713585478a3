"""Clients of Pusher over real sockets: channels, members, events of clients, users; at several nodes as at one."""

import json
from typing import Any
from uuid import uuid4

import pytest
from tests.conftest import CLUSTER, SQLITE, StartServer
from tests.pusher_calls import done, trigger
from tests.pusher_client import PusherClient, line
from tests.transports.pusher_faults import described

everywhere = pytest.mark.nodes(1, 3, CLUSTER, SQLITE)
SUCCEEDED = "pusher_internal:subscription_succeeded"


def is_added(frame: Any, channel: str, user_id: str, info: Any = None) -> bool:
    """Whether a frame says that a member has joined."""
    data = {"user_id": user_id, "user_info": info}
    return (frame["event"], frame["channel"], json.loads(frame["data"])) == (
        "pusher_internal:member_added",
        channel,
        data,
    )


def removed(channel: str, user_id: str) -> dict[str, Any]:
    return {
        "event": "pusher_internal:member_removed",
        "channel": channel,
        "data": f'{{"user_id":"{user_id}"}}',
    }


# -- channels


@everywhere
def test_events_of_servers_reach_subscribers(server: Any) -> None:
    """As they were triggered, in order; until the client leaves."""
    with line(server) as client:
        assert client.joins("psk-1") == {}
        for data in ('{"n": 1}', "hello", '"hello"', ""):
            trigger(server, "psk-1", data=data)
        for data in ('{"n": 1}', "hello", '"hello"', ""):
            assert client.next() == {"event": "hi", "channel": "psk-1", "data": data}
        assert client.sends("pusher:unsubscribe", {"channel": "psk-1"}).nothing_more()
        trigger(server, "psk-1")
        assert client.nothing_more()
        assert client.joins("psk-1") == {}


@everywhere
def test_the_socket_id_of_a_call_leaves_its_line_out(server: Any) -> None:
    """And that only."""
    with line(server) as client, line(server) as other:
        for each in (client, other):
            each.joins("psk-2")
        trigger(server, "psk-2", "without", socket_id=client.socket_id)
        trigger(server, "psk-2", "with", socket_id="1.1")
        assert [client.next()["event"]] == ["with"]
        assert [other.next()["event"] for _ in range(2)] == ["without", "with"]


def test_three_hundred_channels_at_once(server: Any) -> None:
    """A client that comes back subscribes to all that it had."""
    with line(server) as client:
        for number in range(300):
            client.sends("pusher:subscribe", {"channel": f"psk-many-{number}"})
        channels = [client.next()["channel"] for _ in range(300)]
        assert channels == [f"psk-many-{number}" for number in range(300)]


def test_a_client_in_too_many_channels(start_server: StartServer) -> None:
    """Is refused one more, of either kind, and goes on."""
    server = start_server(CHANNELSTREAM_MAX_CHANNELS_PER_CONNECTION="2")
    with line(server) as client:
        client.joins("presence-a", "ann")
        client.joins("b")
        for channel, member in (("c", ()), ("presence-c", ("ann",))):
            refusal = client.subscribe(channel, *member)
            assert json.loads(refusal["data"])["type"] == "LimitReached"
            assert client.next()["event"] == "pusher:error"
        client.sends("pusher:unsubscribe", {"channel": "presence-a"})
        assert client.joins("c") == {}


def test_a_client_that_names_channels_without_end(server: Any) -> None:
    """May bring a thousand into being, as a client with a token may; those that are there are free."""
    with line(server) as client, line(server) as other:
        other.joins("psk-there")
        for number in range(1100):
            data = {"channel": f"psk-endless-{number}"}
            client.sends("pusher:subscribe", data).sends("pusher:unsubscribe", data)
        client.sends("pusher:ping")
        found = list(iter(lambda: described(client.next()), "pusher:pong"))
        assert found.count("subscription_error LimitReached 400") == 1100 - found.count(SUCCEEDED) > 0
        assert found.count(SUCCEEDED) >= 1000
        assert client.joins("psk-there") == {}


@everywhere
def test_a_cache_channel_sends_its_last_event(server: Any) -> None:
    """Only what servers trigger is kept."""
    with line(server) as client, line(server) as other:
        client.joins("private-cache-psk")
        assert client.next() == {"event": "pusher:cache_miss", "channel": "private-cache-psk", "data": "{}"}
        trigger(server, "private-cache-psk", data='{"n":1}')
        client.sends("client-hi", 1, channel="private-cache-psk")
        assert client.next()["event"] == "hi"
        assert client.nothing_more()
        other.joins("private-cache-psk")
        assert other.next() == {"event": "hi", "channel": "private-cache-psk", "data": '{"n":1}'}


@everywhere
def test_native_clients_share_a_channel(server: Any) -> None:
    """A message is the event `message`; edits and deletions are events as well."""
    with line(server) as client:
        client.joins("psk-3")
        message = {"user": "x", "channel": "pusher/psk-3", "uuid": str(uuid4())}
        server.post("/message", [message | {"message": {"a": 1}}])
        assert client.next() == {"event": "message", "channel": "psk-3", "data": '{"a":1}'}
        for method, event in (("PATCH", "message:edit"), ("DELETE", "message:delete")):
            assert server.request(method, "/message", [message | {"message": 2}]).status_code == 200
            frame = client.next()
            assert (frame["event"], json.loads(frame["data"])["uuid"]) == (event, message["uuid"])


# -- members


@everywhere
def test_members_of_a_presence_channel(server: Any) -> None:
    """Each user once, with what its first line said of itself; second tabs are silent both ways."""
    channel = "presence-psk-1"
    with line(server) as ann, line(server) as bob:
        joined = ann.joins(channel, "ann", {"n": 1})
        assert joined == {"presence": {"ids": ["ann"], "hash": {"ann": {"n": 1}}, "count": 1}}
        hash_ = bob.joins(channel, "bob")["presence"]["hash"]
        assert hash_ == {"ann": {"n": 1}, "bob": None}
        assert is_added(ann.next(), channel, "bob")
        with line(server) as tab:
            presence = tab.joins(channel, "ann", {"n": 2})["presence"]
            assert (presence["hash"]["ann"], presence["count"]) == ({"n": 1}, 2)
            assert sorted(presence["ids"]) == ["ann", "bob"]
        for each in (ann, bob):
            assert each.nothing_more()
        ann.sends("pusher:unsubscribe", {"channel": channel})
        assert bob.next() == removed(channel, "ann")
        assert ann.nothing_more()
        assert ann.joins(channel, "ann", {"n": 3})["presence"]["hash"] == {"ann": {"n": 3}, "bob": None}
        assert is_added(bob.next(), channel, "ann", {"n": 3})


ODD_NAMES = (
    "a\nb\tc",
    "\x1f\x1e\0x",
    "\x1fdefault\x1e\x1fann",
    " ",
    "a/b#c?d%",
    "é\U0001f600",
    "{}",
    "null",
    "x" * 128,
)
ODD_INFO = {
    "a\nb\tc": 1,
    "": "x",
    "\0": True,
    "none": None,
    "f": 1.5,
    "big": 2**70,
    "deep": {"a": [1]},
    "é": "\n\x1f",
    "pusher:user_info": "what this server calls all of it",
}


@everywhere
def test_whatever_members_are_called(server: Any) -> None:
    """They and what they have of themselves are sent on as the application has signed them."""
    for number, name in enumerate(ODD_NAMES):
        channel = f"presence-psk-odd-{number}"
        with line(server) as odd, line(server) as bob:
            odd.joins(channel, name, ODD_INFO)
            hash_ = bob.joins(channel, "bob", ODD_INFO)["presence"]["hash"]
            assert hash_ == {name: ODD_INFO, "bob": ODD_INFO}
            assert is_added(odd.next(), channel, "bob", ODD_INFO)
            odd.sends("client-hi", 1, channel=channel)
            assert bob.next()["user_id"] == name
            odd.sends("pusher:unsubscribe", {"channel": channel})
            assert json.loads(bob.next()["data"]) == {"user_id": name}


@everywhere
def test_a_lost_line_leaves_at_once(server: Any) -> None:
    """Without a close frame as with one; the last line of a user is announced."""
    channel = "presence-psk-2"
    with line(server) as bob, line(server) as ann, line(server) as tab:
        bob.joins(channel, "bob")
        for each in (ann, tab):
            each.joins(channel, "7")
        assert is_added(bob.next(), channel, "7")
        ann.stream.socket.close()
        tab.stream.close()
        assert bob.next() == removed(channel, "7")
        assert bob.nothing_more()
        assert done(server, "GET", f"/channels/{channel}/users") == {"users": [{"id": "bob"}]}


@everywhere
def test_events_of_clients_reach_the_others(server: Any) -> None:
    """Not back; in presence channels with the name under which the sender joined."""
    with line(server) as ann, line(server) as bob:
        for channel, member, more in (
            ("private-psk-4", (), {}),
            ("presence-psk-4", ("ann",), {"user_id": "ann"}),
        ):
            ann.joins(channel, *member)
            bob.joins(channel, *(("bob",) if member else ()))
            if member:
                assert is_added(ann.next(), channel, "bob")
            for data in ({"n": [1]}, "text", None):
                ann.sends("client-hi", data, channel=channel, user_id="eve")
                assert bob.next() == {"event": "client-hi", "channel": channel, "data": data, **more}
        assert ann.nothing_more()


# -- users


@everywhere
def test_a_user_signs_in(server: Any) -> None:
    """Its channel is its own, and delivers once it is subscribed to; it joins presence channels by its sign-in."""
    channel = "#server-to-user-psk-ann"
    with line(server) as client:
        user_data = '{"id": "psk-ann", "user_info": {"n": 1}}'
        frame = client.sign_in(user_data)
        assert frame["event"] == "pusher:signin_success"
        assert json.loads(frame["data"]) == {"user_data": user_data}
        assert client.sign_in(user_data) == frame
        assert client.sign_in('{"id": "psk-bob"}')["data"]["code"] == 4009
        trigger(server, channel, "early")
        assert client.nothing_more()
        assert client.asks("pusher:subscribe", {"channel": channel})["channel"] == channel
        trigger(server, channel, "late")
        assert client.next()["event"] == "late"
        found = client.joins("presence-psk-5")["presence"]["hash"]
        assert found == {"psk-ann": {"n": 1}}
        assert channel not in done(server, "GET", "/channels")["channels"]


@everywhere
def test_the_lines_of_a_user_are_ended(server: Any) -> None:
    """At all nodes; a member of the same name that has not signed in stays."""
    user_data = '{"id":"psk-gone"}'
    with line(server) as one, line(server) as two, line(server) as member:
        for each in (one, two):
            assert each.sign_in(user_data)["event"] == "pusher:signin_success"
        member.joins("presence-psk-6", "psk-gone")
        done(server, "POST", "/users/psk-gone/terminate_connections", {})
        for each in (one, two):
            code, reason = each.closed()
            assert code == 4009
            assert reason
        assert member.nothing_more()


def test_two_applications_have_lines_of_their_own(start_server: StartServer) -> None:
    """A key is found whatever application has it; the channels are others."""
    shop = {"APP_ID": "12", "KEY": "shop-key", "SECRET": "shop-secret"}
    own = {f"CHANNELSTREAM_APP_SHOP_PUSHER_{name}": text for name, text in shop.items()}
    server = start_server(CHANNELSTREAM_APP_SHOP_SECRET="secret of the shop", **own)
    with line(server) as client, line(server, shop) as other:
        for each in (client, other):
            each.joins("private-a")
        done(server, "POST", "/events", {"name": "hi", "channel": "private-a", "data": "1"}, app=shop)
        assert other.next()["event"] == "hi"
        assert client.nothing_more()
        forged = {
            "channel": "private-b",
            "auth": PusherClient.auth(client, "private-b").replace("kit-", "shop-", 1),
        }
        assert other.asks("pusher:subscribe", forged)["event"] == "pusher:subscription_error"
