"""Clients of Pusher over real sockets: what is refused, and what ends a line."""

import json
import re
import socket
from contextlib import suppress
from typing import Any

import pytest
from tests import admin_pages
from tests.conftest import StartServer
from tests.http_client import http
from tests.pusher_calls import trigger
from tests.pusher_client import address, line
from tests.transports.pusher_faults import FAULTS, REFUSALS, Fault, Refusal, answers, refused
from tests.waiting import PATIENCE_S
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from channelstream.wire.frames import PING, close_frame

HERE = {"CHANNELSTREAM_ALLOW_CORS": "https://here.example"}


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


def test_a_wrong_key_and_a_foreign_page_are_reported(start_server: StartServer) -> None:
    """To who looks for the reason at the server: a page with such a fault never opens a line."""
    server = start_server(**HERE)
    faults = {"unknown key": "unknown_connection", "Origin not allowed": "refused"}
    for refusal in REFUSALS:
        if refusal.name in faults:
            refused(server, refusal)
    rows = admin_pages.rows(server, "refused")
    assert {(row["route"], row["code"], row["count"]) for row in rows} == {
        ("/app/{key}", code, 1) for code in faults.values()
    }


def test_the_document_of_admins_counts_each_line(start_server: StartServer) -> None:
    """As a connection, and as a user who is in no list of users; in a presence channel its member is another."""
    server = start_server(**HERE)
    server.connect("ann", "news")
    names = ("remembered_user_count", "unique_user_count", "total_connections", "open_streams")
    with line(server) as one, line(server) as other:
        one.subscribe("open")
        other.joins("presence-open", "bob")
        found = server.any.request("GET", "/admin/admin.json").json()
        assert [found[name] for name in names] == [1, 4, 4, 2]
        assert [each["user"] for each in found["users"]] == ["ann"]


def test_a_request_without_an_upgrade(server: Any) -> None:
    assert http.get(f"{server.any.url}/app/kit-key").status_code == 426


def test_an_application_without_a_key_has_no_clients(start_server: StartServer) -> None:
    """The path does not exist."""
    off = {f"CHANNELSTREAM_PUSHER_{name}": "" for name in ("APP_ID", "KEY", "SECRET")}
    assert http.get(f"{start_server(**off).url}/app/kit-key").status_code == 404


@pytest.mark.parametrize(
    ("sent", "code"), [(b"binary", 1003), ("x" * 131_073, 1009)], ids=["binary", "too big"]
)
def test_a_message_that_ends_the_line(sent: Any, code: int, server: Any) -> None:
    with line(server) as client:
        client.stream.send(sent)
        assert client.closed()[0] == code


def test_too_many_frames_end_the_line(start_server: StartServer) -> None:
    """More than a client that comes back to all its channels needs, and its events from one ping to the next: with a
    heartbeat."""
    server = start_server(
        CHANNELSTREAM_PING_INTERVAL_S="20",
        CHANNELSTREAM_HEARTBEAT_INTERVAL_S="60",
        CHANNELSTREAM_MAX_INBOUND_FRAMES="10",
        CHANNELSTREAM_PUSHER_CLIENT_EVENT_RATE="10",
    )
    with line(server) as client:
        for _ in range(1500):
            client.sends("pusher:pong")
        assert client.nothing_more()
        with suppress(ConnectionClosed):  # The server may end the line before all of them are sent.
            for _ in range(200):
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
    with line(server) as client:
        assert all_of_a_silent_line(server).endswith(close_frame(4201, "no sign of life for too long"))
        assert client.nothing_more()


def test_a_client_is_pinged_before_it_counts_as_silent(start_server: StartServer) -> None:
    """A client that only answers our pings stays, however short `activity_timeout` is."""
    server = start_server(
        CHANNELSTREAM_HEARTBEAT_INTERVAL_S="0.1",
        CHANNELSTREAM_PING_INTERVAL_S="2.5",
        CHANNELSTREAM_PUSHER_ACTIVITY_TIMEOUT_S="1",
    )
    assert all_of_a_silent_line(server).endswith(PING + close_frame(4201, "no sign of life for too long"))


def all_of_a_silent_line(server: Any) -> bytes:
    """Return what a client is sent that answers nothing, until its line is closed."""
    request = (
        b"GET /app/kit-key?protocol=7 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE_S) as silent:
        silent.sendall(request)
        received = b""
        while data := silent.recv(65_536):
            received += data
    return received


def test_clients_of_a_server_that_stops_come_back(start_server: StartServer) -> None:
    """Its clients come back at once."""
    server = start_server()
    with line(server) as client:
        server.stop()
        assert client.closed() == (4200, "the server restarts")


def test_clients_of_a_full_server_come_back_later(start_server: StartServer) -> None:
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
