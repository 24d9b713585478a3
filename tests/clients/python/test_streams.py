"""The three transports of the client, each against a small real server that misbehaves on request."""

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from threading import Thread
from typing import cast

import pytest
from tests.local_server import LocalHandler, LocalServer, running
from tests.waiting import PATIENCE_S
from websockets.sync.server import ServerConnection
from websockets.sync.server import serve as serve_websocket

from channelstream_client import StreamClosed, streams
from channelstream_client.protocol import LOST, Item, StreamEnded, items_of
from channelstream_client.reach import Reach, tls_context
from channelstream_client.resuming import OpenStream, ResumingClient, Stop, Wait
from channelstream_client.streams import TRANSPORTS, Stream, long_poll, sse, websocket

EVENT: Item = {"type": "message", "message": "hi"}
CLOSING: Item = {"type": "closing", "code": 4008, "reason": "too slow"}


@contextmanager
def http_answer(status: int, body: str) -> Iterator[str]:
    """A server that gives every GET the same answer and closes."""

    class Handler(LocalHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Connection", "close")
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            self.wfile.write(body.encode())

    with running(LocalServer(Handler)) as server:
        yield server.url


@contextmanager
def websocket_that_closes(code: int, *items: Item) -> Iterator[str]:
    """A server that sends one list of items to every WebSocket and closes it."""

    def handle(socket: ServerConnection) -> None:
        socket.send(json.dumps(items))
        socket.close(code, "asked to")

    with serve_websocket(handle, "127.0.0.1", 0) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.socket.getsockname()[1]}"
        finally:
            server.shutdown()
            thread.join()


def receive(stream: Stream, url: str) -> tuple[list[Item], int]:
    """Return the items of a stream, and the code it ends with."""
    return asyncio.run(_receive(stream, url))


async def _receive(stream: Stream, url: str) -> tuple[list[Item], int]:
    client = ResumingClient(url, "c1", [stream], lambda: 0.0, position="e-1")
    opening = client.next_step(0.0)
    assert isinstance(opening, OpenStream)
    received: list[Item] = []
    reach = Reach(lambda: tls_context(url, True), trust_env=False)
    try:
        async with (
            asyncio.timeout(PATIENCE_S),
            aclosing(cast("AsyncGenerator[str | bytes, None]", stream(opening, reach))) as lists,
        ):
            async for text in lists:
                received += client.received(items_of(text), 0.0)
    except StreamEnded as end:
        client.ended(end, 0.0)
    finally:
        await reach.close()
    match client.next_step(0.0):
        case Wait(down=down) if down is not None:
            return received, down.code
        case Stop(error=StreamClosed(code=code)):
            return received, code
        case Stop(error=None):
            return received, 1000
    raise AssertionError("the stream has not ended")


every_stream = pytest.mark.parametrize("stream", TRANSPORTS, ids=lambda stream: stream.__name__)
by_http = pytest.mark.parametrize(
    ("stream", "form"),
    [(sse, "data: {}\n\n"), (long_poll, "{}")],
    ids=lambda each: getattr(each, "__name__", ""),
)


@pytest.mark.parametrize("code", [1000, 4001, 4002, 4008])
def test_a_websocket_ends_with_its_close_code(code: int) -> None:
    """A WebSocket yields the items of its lists and ends with the server's close code."""
    with websocket_that_closes(code, EVENT, EVENT) as url:
        assert receive(websocket, url) == ([EVENT, EVENT], code)


def test_an_event_stream_that_breaks_off_is_lost() -> None:
    """Each block of an event stream is one list; a stream that just ends was lost."""
    body = f"id: e-2\ndata: {json.dumps([EVENT])}\n\ndata: []\n\n"
    with http_answer(200, body) as url:
        assert receive(sse, url) == ([EVENT], LOST)


def test_sse_with_what_ends_a_line_elsewhere() -> None:
    """Characters that end a line in Python, but neither in JSON nor in an event stream, end nothing."""
    item = EVENT | {"message": "one\u2028two\u2029three\x85four"}
    with http_answer(200, f"data: {json.dumps([item], ensure_ascii=False)}\n\n") as url:
        assert receive(sse, url) == ([item], LOST)


@by_http
def test_a_closing_item_is_the_close_code(stream: Stream, form: str) -> None:
    """The closing item of SSE and long poll is the code the stream ends with."""
    with http_answer(200, form.format(json.dumps([EVENT, CLOSING]))) as url:
        assert receive(stream, url) == ([EVENT], 4008)


@pytest.mark.slow
@every_stream
@pytest.mark.parametrize(
    ("status", "code"), [(401, 4001), (409, 4002), (429, 1013), (503, 1013), (502, LOST)]
)
@pytest.mark.parametrize("body", ["", "[" * 60_000], ids=["empty", "nested"])
def test_a_refusing_status_is_a_close_code(stream: Stream, status: int, code: int, body: str) -> None:
    """An HTTP status instead of a stream says the same as a close code, whatever the body is."""
    with http_answer(status, body) as url:
        assert receive(stream, url) == ([], code)


@every_stream
def test_without_a_server_the_stream_is_lost(stream: Stream) -> None:
    """Without a server the stream is lost."""
    assert receive(stream, "http://127.0.0.1:9") == ([], LOST)


@by_http
@pytest.mark.parametrize("answer", ["<html>", "[" * 100_000], ids=["page", "nested"])
def test_an_answer_that_is_no_list_is_a_lost_stream(stream: Stream, form: str, answer: str) -> None:
    """An answer that is no list of items, such as a proxy's page, is a lost stream."""
    with http_answer(200, form.format(answer)) as url:
        assert receive(stream, url) == ([], LOST)


@every_stream
def test_list_that_is_too_long_ends_it_for_good(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be sent again each time: a reconnect would begin it again for ever."""
    monkeypatch.setattr(streams, "MAX_LIST_BYTES", 1_000)
    long = json.dumps([EVENT | {"message": "x" * 2_000}])
    if stream is websocket:
        with websocket_that_closes(1000, EVENT | {"message": "x" * 2_000}) as url:
            assert receive(stream, url) == ([], 1009)
    else:
        with http_answer(200, f"data: {long}" if stream is sse else long) as url:
            assert receive(stream, url) == ([], 1009)
