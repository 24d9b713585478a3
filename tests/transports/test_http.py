"""The HTTP front of the streams: bounds of heads, garbage, pipelining, refused bodies, the drain."""

import signal
import socket
from pathlib import Path
from typing import Any

import pytest
from tests.http_client import http
from tests.processes import resident_bytes
from tests.waiting import PATIENCE_S

REFUSED = b"GET /listen?conn_id=x HTTP/1.1\r\nHost: test\r\n\r\n"


def test_a_head_over_the_limit_is_answered_431(server: Any, clients: Any) -> None:
    """A head longer than allowed is answered 431."""
    raw = clients.raw(server.port)
    raw.send(b"GET /listen HTTP/1.1\r\nHost: test\r\nX-Long: " + b"x" * 40_000)
    assert raw.rest().startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize("head", [b"", b"GET /listen HTTP/1.1\r\nHost: te"])
def test_an_incomplete_head_is_answered_408(own_server: Any, clients: Any, head: bytes) -> None:
    """A head that is not complete in time is answered 408."""
    raw = clients.raw(own_server("--head-timeout-s", "1").port)
    raw.send(head)
    assert raw.rest().startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize(
    "garbage", [b"\x16\x03\x01\x02\x00\x01\x00", b"HELLO\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"]
)
def test_bytes_that_are_no_http_are_answered_400(server: Any, clients: Any, garbage: bytes) -> None:
    """Bytes that are no HTTP are answered 400."""
    raw = clients.raw(server.port)
    raw.send(garbage)
    assert raw.rest().startswith(b"HTTP/1.1 400 ")


def test_pipelined_requests_are_answered_in_order(server: Any, clients: Any) -> None:
    """Requests in one packet are answered in their order, byte by byte as well."""
    raw = clients.raw(server.port)
    raw.send(REFUSED * 3)
    for byte in REFUSED:
        raw.send(bytes((byte,)))
    for _ in range(4):
        assert raw.until(b"\r\n\r\n").startswith(b"HTTP/1.1 401 ")
        raw.until(b"}")


def test_unread_answers_pause_the_reading(server: Any, clients: Any) -> None:
    """A client that sends requests and reads no answers is not read from: it fills no memory, and may continue later."""
    raw = clients.raw(server.port, receive_bytes=4096)
    before = resident_bytes(server.process.pid)
    raw.socket.settimeout(0.5)
    sent = 0
    with pytest.raises(TimeoutError):
        while sent < 40_000_000:
            sent += raw.socket.send(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n" * 2000)
    assert sent < 20_000_000
    assert resident_bytes(server.process.pid) - before < 8_000_000
    raw.socket.settimeout(PATIENCE_S)
    for _ in range(2000):
        assert raw.until(b"\r\n\r\n").startswith(b"HTTP/1.1 404 ")
        raw.until(b"}")


def test_an_unknown_upgrade_is_ignored(server: Any, clients: Any) -> None:
    """An upgrade to anything else is ignored, and the request behind it is answered (RFC 9110, 7.8)."""
    raw = clients.raw(server.port)
    raw.send(REFUSED.replace(b"\r\n\r\n", b"\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n") + REFUSED)
    for _ in range(2):
        assert raw.until(b"\r\n\r\n").startswith(b"HTTP/1.1 401 ")
        raw.until(b"}")


def test_many_unknown_upgrades_are_ignored(server: Any, clients: Any) -> None:
    """All requests of one packet are answered, and their upgrades ignored, however many: none costs stack."""
    raw = clients.raw(server.port)
    raw.send(REFUSED.replace(b"\r\n\r\n", b"\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n") * 1500)
    for _ in range(1500):
        assert raw.until(b"\r\n\r\n").startswith(b"HTTP/1.1 401 ")
        raw.until(b"}")


UPGRADES = [
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
    b"Connection: upgrade\r\nUpgrade: foo\r\n",
    b"Connection: Upgrade\r\nUpgrade: websocket\r\n",
]
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: test\r\n\r\n"
"""A body that reads like a request."""
BODIES = [
    b"Content-Length: %d\r\n\r\n%b" % (len(HIDDEN), HIDDEN),
    b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN),
]


@pytest.mark.parametrize("body", BODIES, ids=["length", "chunked"])
@pytest.mark.parametrize("upgrade", UPGRADES, ids=["h2c", "foo", "websocket"])
@pytest.mark.parametrize("step", [1, 10_000], ids=["byte by byte", "whole"])
def test_the_body_behind_an_unknown_upgrade_is_a_body(
    server: Any, clients: Any, upgrade: bytes, body: bytes, step: int
) -> None:
    """The body of a request whose upgrade is ignored is its body, never the next request (RFC 9110, 7.8)."""
    raw = clients.raw(server.port)
    data = b"POST /listen?conn_id=x HTTP/1.1\r\nHost: test\r\n" + upgrade + body + REFUSED
    for start in range(0, len(data), step):
        raw.send(data[start : start + step])
    head = raw.until(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 401 ")
    raw.until(b"}")
    if b"connection: close" in head:
        # The answer went out before the chunks: the rest of them is thrown away, and nothing behind it is read.
        assert (step, b"chunked" in body, raw.rest()) == (1, True, b"")
        return
    assert raw.until(b"\r\n\r\n").startswith(b"HTTP/1.1 401 ")
    raw.until(b"}")
    raw.send(b"GET /listen HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
    assert raw.rest().startswith(b"HTTP/1.1 422 ")


def test_the_body_behind_an_upgrade_is_read(server: Any, clients: Any) -> None:
    """A call of a client that offers an upgrade, as Java's and curl's do, is served with its body."""
    body = b'{"info": {"channels": []}}'
    signature = server.sign("/info")["x-channelstream-secret"].encode()
    raw = clients.raw(server.port)
    raw.send(
        b"POST /info HTTP/1.1\r\nHost: test\r\nx-channelstream-secret: %b\r\n%bContent-Length: %d\r\n\r\n%b"
        % (signature, UPGRADES[0], len(body), body)
    )
    assert raw.until(b"\r\n\r\n").startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("body", BODIES, ids=["length", "chunked"])
def test_a_websocket_request_with_a_body_is_refused(server: Any, clients: Any, body: bytes) -> None:
    """The next bytes could be a body or frames: it is refused and nothing behind it is read."""
    raw = clients.raw(server.port)
    raw.send(
        b"GET /ws?conn_id=%b HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n%b"
        % (server.connect("ann").encode(), body)
    )
    answer = raw.rest()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1") == 1


def test_the_body_of_a_refused_request_is_skipped(server: Any, clients: Any) -> None:
    """The body of a request that was refused by its head is skipped, however long it is."""
    raw = clients.raw(server.port)
    raw.send(b"POST /message HTTP/1.1\r\nHost: test\r\nContent-Length: 100000\r\n\r\n")
    assert raw.until(b"\r\n\r\n").startswith(b"HTTP/1.1 403 ")
    raw.until(b"}")
    raw.send(b"x" * 100_000 + REFUSED)
    assert raw.until(b"\r\n\r\n").startswith(b"HTTP/1.1 401 ")


def test_too_many_sockets_are_answered_503(own_server: Any, clients: Any) -> None:
    """More sockets than allowed are answered 503 at once."""
    server = own_server("--max-connections", "2")
    clients.raw(server.port), clients.raw(server.port)
    assert clients.raw(server.port).rest().startswith(b"HTTP/1.1 503 ")


@pytest.mark.parametrize(
    ("number", "timeout_s"), [(signal.SIGTERM, "5"), (signal.SIGINT, "5"), (signal.SIGTERM, "0")]
)
def test_the_drain_closes_every_stream_and_exits_0(
    start_server: Any, clients: Any, number: int, timeout_s: str
) -> None:
    """A signal closes every stream, says that the server restarts, and ends the process with 0 and a clean log."""
    server = start_server("--drain-timeout-s", timeout_s)
    streams = {kind: server.connect(kind, "news") for kind in ("ws", "sse", "poll")}
    ws = clients.ws(server.port, f"conn_id={streams['ws']}&since=")
    sse = clients.sse(server.port, f"conn_id={streams['sse']}&since=")
    ws.items(), sse.items()
    poll = clients.raw(server.port)
    poll.send(f"GET /listen?conn_id={streams['poll']} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
    assert http.get(server.url + "/listen?conn_id=x").status_code == 401
    server.process.send_signal(number)
    assert ws.close_code() == 1012
    ws.close()
    assert sse.items()[-1]["code"] == 1012
    answer = poll.rest()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nretry-after: " in answer
    log, _ = server.process.communicate(timeout=PATIENCE_S)
    assert server.process.returncode == 0
    assert "Traceback" not in log


HALVES = [
    b"",
    b"GET /listen HTTP/1.1\r\nHost: te",
    b"POST /disconnect HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{",
    b"POST /message HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n{",
    b"POST /admin/sign_in HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    b"Content-Length: 100\r\n\r\nusername=",
    REFUSED * 1000,
]


def test_stopping_does_not_wait_for_idle_or_partial_requests(own_server: Any, clients: Any) -> None:
    """Idle connections, partial and queued requests do not delay the stop, and the log stays clean."""
    server = own_server("--drain-timeout-s", "600")
    for half in HALVES:
        clients.raw(server.port).send(half)
    poll = clients.raw(server.port)
    poll.send(
        f"GET /listen?conn_id={server.connect('ann')} HTTP/1.1\r\nHost: test\r\n\r\n".encode() + REFUSED * 9
    )
    assert server.request("GET", "/info").status_code == 200
    code, log = server.stop()
    assert (code, "Traceback" in log) == (0, False), log


def test_stopping_waits_for_unread_answers_until_the_drain_ends(own_server: Any, clients: Any) -> None:
    """The stop waits for them as long as the drain may take, then drops them."""
    server = own_server("--drain-timeout-s", "0.3")
    raw = clients.raw(server.port, receive_bytes=4096)
    raw.socket.settimeout(0.5)
    with pytest.raises(TimeoutError):
        while True:
            raw.socket.send(REFUSED * 2000)
    code, log = server.stop()
    assert (code, "Traceback" in log) == (0, False), log


@pytest.mark.parametrize("engine", ["memory", "sqlite"])
def test_a_client_that_ends_its_side_is_answered(
    own_server: Any, clients: Any, engine: str, tmp_path: Path
) -> None:
    """Its request is answered, whether the engine answers at once or later."""
    server = own_server(*(("--engine", f"sqlite:///{tmp_path}/x.db") if engine == "sqlite" else ()))
    body = b'[{"user": "a", "channel": "c", "message": {}}]'
    signature = server.sign("/message")["x-channelstream-secret"].encode()
    raw = clients.raw(server.port)
    raw.send(
        b"POST /message HTTP/1.1\r\nHost: x\r\nx-channelstream-secret: %b\r\nContent-Length: %d\r\n\r\n%b"
        % (signature, len(body), body)
    )
    raw.socket.shutdown(socket.SHUT_WR)
    assert raw.rest().startswith(b"HTTP/1.1 200 ")


def test_a_head_behind_a_waiting_poll_is_bounded(server: Any, clients: Any) -> None:
    """A head is bounded as well while the answer before it is not ready, and refused behind that answer."""
    raw = clients.raw(server.port)
    conn_id = server.connect("ann", "long-head")
    raw.send(f"GET /listen?conn_id={conn_id} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
    server.post("/info", {"info": {"channels": []}})
    raw.send(b"GET /listen HTTP/1.1\r\nX-Long: " + b"x" * 40_000)
    server.post("/info", {"info": {"channels": []}})
    server.post("/message", {"user": "bob", "channel": "long-head", "message": 1})
    answers = raw.rest()
    assert answers.startswith(b"HTTP/1.1 200 ")
    assert b"HTTP/1.1 431 " in answers


def test_trailers_are_bounded(server: Any, clients: Any) -> None:
    """Trailers of a chunked body are bounded like a head."""
    raw = clients.raw(server.port)
    conn_id = server.connect("ann")
    raw.send(f"POST /listen?conn_id={conn_id} HTTP/1.1\r\nHost: test\r\n".encode())
    raw.send(b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-Long: " + b"x" * 300_000)
    assert raw.rest().startswith(b"HTTP/1.1 431 ")


def test_http_1_0_opens_no_websocket(server: Any, clients: Any) -> None:
    """HTTP/1.0 opens no WebSocket (RFC 6455, 4.1)."""
    raw = clients.raw(server.port)
    raw.send(
        b"GET /ws?conn_id=x HTTP/1.0\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    assert raw.rest().startswith(b"HTTP/1.1 426 ")


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (b"POST /disconnect HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n", b"408"),
        (b"POST /connect HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n{", b"403"),
    ],
)
def test_a_body_that_does_not_come_is_answered_once(
    own_server: Any, clients: Any, request_head: bytes, status: bytes
) -> None:
    """A client that announces a body and does not send it gets one answer, and its socket closes after body_timeout_s."""
    client = clients.raw(own_server("--body-timeout-s", "1").port)
    client.send(request_head)
    answer = client.rest()
    assert answer.startswith(b"HTTP/1.1 %b " % status)
    assert answer.count(b"HTTP/1.1 ") == 1


def test_the_body_of_an_unsigned_call_is_bounded(server: Any, clients: Any) -> None:
    """A stranger's body is short: more than 4096 bytes are refused by the declared length."""
    client = clients.raw(server.port)
    client.send(b"POST /disconnect HTTP/1.1\r\nHost: x\r\nContent-Length: 4097\r\n\r\n")
    assert b" 413 " in client.until(b"\r\n")


def test_an_aborted_form_leaves_no_traceback(own_server: Any, clients: Any) -> None:
    """A client that leaves in the middle of the sign-in form leaves no traceback (own_server looks for one)."""
    running = own_server()
    client = clients.raw(running.port)
    client.send(
        b"POST /admin/sign_in HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        b"Content-Length: 100\r\n\r\nusername="
    )
    client.close()
    assert running.request("GET", "/info").status_code == 200


def test_streams_are_found_under_the_prefix_of_a_proxy(own_server: Any, clients: Any) -> None:
    """A trusted proxy names the prefix that it keeps, and API and streams are found under it."""
    running = own_server("--trusted-proxies", "127.0.0.1", "--allow-posting-from", "127.0.0.1")
    conn_id = running.connect("prefixed", "prefixed")
    client = clients.raw(running.port)
    client.send(
        f"GET /push/sse?conn_id={conn_id} HTTP/1.1\r\nHost: x\r\nX-Script-Name: /push\r\n\r\n".encode()
    )
    assert b" 200 " in client.until(b"\r\n\r\n")
    other = clients.raw(running.port)
    other.send(b"GET /push/listen?conn_id=none HTTP/1.1\r\nHost: x\r\nX-Script-Name: /push\r\n\r\n")
    assert b" 401 " in other.until(b"\r\n")
    stranger = clients.raw(running.port)
    stranger.send(b"GET /pushy/listen?conn_id=none HTTP/1.1\r\nHost: x\r\nX-Script-Name: /push\r\n\r\n")
    assert b" 404 " in stranger.until(b"\r\n")
