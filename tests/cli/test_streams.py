"""The three transports of `listen`, each against a small real server that misbehaves on request."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from websockets.sync.server import ServerConnection
from websockets.sync.server import serve as serve_websocket

from channelstream.cli import streams
from channelstream.cli.remote import Server
from channelstream.cli.streams import LOST, STREAMS, Item, ResumePoint, StreamEnded
from channelstream_client.testing import Line

EVENT: Item = {"type": "message", "message": "hi"}
CLOSING: Item = {"type": "closing", "code": 4008, "reason": "too slow"}


@contextmanager
def http_answer(status: int, body: str) -> Iterator[Server]:
    """A server that gives every GET the same answer and closes."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield Server(f"http://127.0.0.1:{server.server_port}", "secret")
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def websocket_that_closes(code: int, *items: Item) -> Iterator[Server]:
    """A server that sends one list of items to every WebSocket and closes it."""

    def handle(socket: ServerConnection) -> None:
        socket.send(json.dumps(items))
        socket.close(code, "asked to")

    with serve_websocket(handle, "127.0.0.1", 0) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield Server(f"http://127.0.0.1:{server.socket.getsockname()[1]}", "secret")
        finally:
            server.shutdown()
            thread.join()


def receive(transport: str, server: Server) -> tuple[list[Item], int]:
    """Return the items of a stream, and the code it ends with."""
    received: list[Item] = []
    with pytest.raises(StreamEnded) as caught:
        for item in STREAMS[transport](server, ResumePoint("c1", "e-1")):
            received.append(item)
    return received, caught.value.code


@pytest.mark.parametrize("code", [1000, 4001, 4002, 4008])
def test_websocket_close_code(code: int) -> None:
    """A WebSocket yields the items of its lists and ends with the server's close code."""
    with websocket_that_closes(code, EVENT, EVENT) as server:
        assert receive("ws", server) == ([EVENT, EVENT], code)


def test_sse_that_breaks_off() -> None:
    """Each block of an event stream is one list; a stream that just ends was lost."""
    body = f"id: e-2\ndata: {json.dumps([EVENT])}\n\ndata: []\n\n"
    with http_answer(200, body) as server:
        assert receive("sse", server) == ([EVENT], LOST)


def test_sse_with_what_ends_a_line_elsewhere() -> None:
    """Characters that end a line in Python, but neither in JSON nor in an event stream, end nothing."""
    item = EVENT | {"message": "one\u2028two\u2029three\x85four"}
    with http_answer(200, f"data: {json.dumps([item], ensure_ascii=False)}\n\n") as server:
        assert receive("sse", server) == ([item], LOST)


@pytest.mark.parametrize(("transport", "form"), [("sse", "data: {}\n\n"), ("poll", "{}")])
def test_closing_item(transport: str, form: str) -> None:
    """The closing item of SSE and long poll is the code the stream ends with."""
    with http_answer(200, form.format(json.dumps([EVENT, CLOSING]))) as server:
        assert receive(transport, server) == ([EVENT], 4008)


@pytest.mark.slow
@pytest.mark.parametrize("transport", STREAMS)
@pytest.mark.parametrize(
    ("status", "code"), [(401, 4001), (409, 4002), (429, 1013), (503, 1013), (502, LOST)]
)
def test_refusals(transport: str, status: int, code: int) -> None:
    """An HTTP status instead of a stream says the same as a close code."""
    with http_answer(status, "") as server:
        assert receive(transport, server) == ([], code)


@pytest.mark.parametrize("transport", STREAMS)
def test_no_server(transport: str) -> None:
    """Without a server the stream is lost."""
    assert receive(transport, Server("http://127.0.0.1:9", "secret")) == ([], LOST)


@pytest.mark.parametrize(("transport", "form"), [("sse", "data: {}\n\n"), ("poll", "{}")])
def test_nonsense(transport: str, form: str) -> None:
    """An answer that is no list of items, such as a proxy's page, is a lost stream."""
    with http_answer(200, form.format("<html>")) as server:
        assert receive(transport, server) == ([], LOST)


@pytest.mark.parametrize("transport", STREAMS)
def test_list_that_is_too_long_ends_it_for_good(transport: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be sent again each time: a reconnect would begin it again for ever."""
    monkeypatch.setattr(streams, "MAX_FRAME_BYTES", 1_000)
    long = json.dumps([EVENT | {"message": "x" * 2_000}])
    if transport == "ws":
        with websocket_that_closes(1000, EVENT | {"message": "x" * 2_000}) as server:
            assert receive(transport, server) == ([], 1009)
    else:
        with http_answer(200, f"data: {long}" if transport == "sse" else long) as server:
            assert receive(transport, server) == ([], 1009)


@pytest.mark.slow
@pytest.mark.parametrize("transport", STREAMS)
@pytest.mark.nodes(1)
def test_large_message_on_a_slow_line_arrives_at_once(
    transport: str, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message that takes several times the longest silence is not cut while bytes arrive; a silent line is."""
    monkeypatch.setattr(streams, "SILENCE_S", 0.25)
    size = 1 << 18
    line = Line(server.port)
    connection = server.connect("cli", "cli-slow")
    try:
        resume_point = ResumePoint(connection)
        items = STREAMS[transport](Server(line.url, server.secret), resume_point)
        resume_point.position = next(items)["position"]
        line.throttle(size)
        server.post("/message", [{"user": "ann", "channel": "cli-slow", "message": "x" * size}])
        assert len(next(item for item in items if item["type"] == "message")["message"]) == size
        line.stall()
        with pytest.raises(StreamEnded) as caught:
            list(items)
        assert caught.value.code == LOST
    finally:
        line.close()
        server.post("/disconnect", {"conn_id": connection})
