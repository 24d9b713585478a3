"""Clients of Pusher over real sockets: lines, channels, members, events of clients, users; at several nodes as at one."""

import json
import re
import socket
from contextlib import suppress
from typing import Any
from uuid import uuid4

import httpx
import pytest
from tests.conftest import CLUSTER, SQLITE, StartServer
from tests.pusher_calls import done
from tests.pusher_client import PusherClient, address, line
from tests.transports.pusher_faults import FAULTS, REFUSALS, Fault, Refusal, answers, described, refused
from tests.waiting import PATIENCE_S
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from channelstream.wire.websocket import close_frame

everywhere = pytest.mark.nodes(1, 3, CLUSTER, SQLITE)
SUCCEEDED = "pusher_internal:subscription_succeeded"
HERE = {"CHANNELSTREAM_ALLOW_CORS": "https://here.example"}


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


def trigger(server: Any, channel: str, name: str = "hi", data: str = "{}", **more: str) -> None:
    done(server, "POST", "/events", {"name": name, "channel": channel, "data": data, **more})


# -- faults


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_answered_and_the_line_stays_open(fault: Fault, server: Any) -> None:
    """None is relayed, and none changes what the client is subscribed to."""
    with line(server) as client, line(server) as other:
        client.joins("open")
        for each in (client, other):
            each.joins("private-open")
        found = answers(client, fault)
        if fault.answers == ("error 4301",):
            assert set(found) == set(fault.answers)
            return
        assert tuple(found) == fault.answers
        assert other.nothing_more()
        trigger(server, "open")
        assert client.next() == {"event": "hi", "channel": "open", "data": "{}"}
        assert client.nothing_more()


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.name)
def test_a_line_is_refused_with_a_close_code(refusal: Refusal, start_server: StartServer) -> None:
    """After the handshake, as browsers do not see an HTTP status; always with a reason."""
    code, reason = refused(start_server(**HERE), refusal)
    assert code == refusal.code
    assert reason


def test_a_request_without_an_upgrade(server: Any) -> None:
    assert httpx.get(f"{server.any.url}/app/kit-key").status_code == 426


def test_an_application_without_a_key_has_no_clients(start_server: StartServer) -> None:
    """The path does not exist."""
    off = {f"CHANNELSTREAM_PUSHER_{name}": "" for name in ("APP_ID", "KEY", "SECRET")}
    assert httpx.get(f"{start_server(**off).url}/app/kit-key").status_code == 404


@pytest.mark.parametrize(
    ("sent", "code"), [(b"binary", 1003), ("x" * 131_073, 1009)], ids=["binary", "too big"]
)
def test_a_message_that_ends_the_line(sent: Any, code: int, server: Any) -> None:
    with line(server) as client:
        client.stream.send(sent)
        assert client.closed()[0] == code


def test_too_many_frames_end_the_line(start_server: StartServer) -> None:
    """More than a client that comes back to all its channels needs."""
    server = start_server(CHANNELSTREAM_PING_INTERVAL_S="60", CHANNELSTREAM_MAX_INBOUND_FRAMES="10")
    with line(server) as client:
        for _ in range(1000):
            client.sends("pusher:pong")
        assert client.nothing_more()
        with suppress(ConnectionClosed):  # The server may end the line before all of them are sent.
            for _ in range(700):
                client.sends("pusher:pong")
        assert client.closed()[0] == 1008


# -- lines


@pytest.mark.parametrize("version", ["5", "6", "7"])
def test_a_line_begins_with_its_socket_id(version: str, server: Any) -> None:
    """Two decimal numbers; another one for each line, and no id of a connection of this server."""
    query = f"client=js&version=8.4.0&protocol={version}&flash=false&since=0-0&conn_id=x"
    with connect(address(server, query=query)) as stream:
        frame = json.loads(stream.recv(PATIENCE_S))
    data = json.loads(frame["data"])
    assert (frame["event"], set(frame)) == ("pusher:connection_established", {"event", "data"})
    assert re.fullmatch(r"\d+\.\d+", data["socket_id"])
    assert data["activity_timeout"] == 120
    answer = server.request("POST", "/disconnect", {"conn_id": data["socket_id"]})
    assert answer.status_code == 200
    with line(server) as one, line(server) as other:
        assert one.socket_id != other.socket_id
        server.post("/disconnect", {"conn_id": one.socket_id})
        assert one.nothing_more()


def test_pings_are_answered(server: Any) -> None:
    """Those of the protocol, and those of WebSocket."""
    with line(server) as client:
        assert client.asks("pusher:ping", {}) == {"event": "pusher:pong", "data": "{}"}
        assert client.stream.ping("x").wait(PATIENCE_S)
        assert client.sends("pusher:pong").nothing_more()


def test_an_origin_that_is_allowed(start_server: StartServer) -> None:
    server = start_server(**HERE)
    with line(server, additional_headers={"Origin": "https://here.example"}) as client:
        assert client.nothing_more()


def test_a_line_may_be_compressed(start_server: StartServer) -> None:
    """Where the option is on and the client asks for it."""
    server = start_server(CHANNELSTREAM_COMPRESSION="true")
    with line(server, compression="deflate") as client:
        client.joins("news")
        trigger(server, "news", data="x" * 5000)
        assert client.next()["data"] == "x" * 5000
        assert client.stream.protocol.extensions


def test_a_client_that_shows_no_sign_of_life(start_server: StartServer) -> None:
    """It answers neither our pings nor sends anything for twice `activity_timeout`; a pong is a sign."""
    server = start_server(
        CHANNELSTREAM_HEARTBEAT_INTERVAL_S="0.1",
        CHANNELSTREAM_PING_INTERVAL_S="0.2",
        CHANNELSTREAM_PUSHER_ACTIVITY_TIMEOUT_S="1",
    )
    request = (
        b"GET /app/kit-key?protocol=7 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    with line(server) as client, socket.create_connection(("127.0.0.1", server.port), PATIENCE_S) as silent:
        silent.sendall(request)
        received = b""
        while data := silent.recv(65_536):
            received += data
        assert received.endswith(close_frame(4201, "no sign of life for too long"))
        assert client.nothing_more()


def test_a_server_that_stops(start_server: StartServer) -> None:
    """Its clients come back at once."""
    server = start_server()
    with line(server) as client:
        server.stop()
        assert client.closed() == (4200, "the server restarts")


def test_a_server_that_is_full(start_server: StartServer) -> None:
    """Its clients come back after a second."""
    server = start_server(CHANNELSTREAM_MAX_APP_CONNECTIONS="1")
    with line(server):
        assert refused(server, Refusal("full", 4100))[0] == 4100


def test_a_client_that_reads_too_slowly(start_server: StartServer) -> None:
    """Is closed when the log does not reach back to what it has read, and comes back after a second."""
    server = start_server("--outbox-bytes", "4096", "--log-events", "20")
    end = socket.socket()
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    end.connect(("127.0.0.1", server.port))
    with line(server, sock=end, max_queue=1) as slow:
        slow.joins("news")
        for number in range(12):
            messages = [{"user": "x", "channel": "pusher/news", "message": f"{number}{'x' * 100_000}"}] * 10
            server.post("/message", messages)
        assert slow.closed()[0] == 4100


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
