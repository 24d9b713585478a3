"""The three transports. Each yields the JSON lists of one stream until it ends, and then raises `StreamEnded`.

A long poll is a stream of one list. The silence timeout counts from the last received byte: a long list may take longer,
as long as bytes arrive.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect, unix_connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from channelstream_client.log_filter import WEBSOCKETS
from channelstream_client.protocol import (
    GOING_AWAY,
    LOST,
    MAX_LIST_BYTES,
    TOO_BIG,
    StreamEnded,
    refused,
    too_long,
)
from channelstream_client.reach import Reach
from channelstream_client.resuming import OpenStream

CLOSE_TIMEOUT_S = 1.0
MAX_REFUSAL_BYTES = 65_536
"""Longest body of a refusal that is read."""
MAX_QUEUED_FRAMES = 4
"""WebSocket frames that are queued before the client stops reading from the socket."""

Opening = OpenStream[Any]
Stream = Callable[[Opening, Reach], AsyncIterator[str | bytes]]


class _Observed(ClientConnection):
    """A WebSocket that records when the last bytes arrived."""

    received_at = 0.0

    def data_received(self, data: bytes) -> None:
        self.received_at = time.monotonic()
        super().data_received(data)


async def websocket(opening: Opening, reach: Reach) -> AsyncIterator[str | bytes]:
    """Yield the lists of a WebSocket."""
    try:
        async with _connect(opening, reach) as socket:
            try:
                while True:
                    yield await _next_text(socket, opening.silence_s)
            finally:
                # Not 1000: it would end the connection, not only the stream.
                await socket.close(GOING_AWAY)
    except ConnectionClosed as closed:
        raise _closed(closed) from closed
    except InvalidStatus as error:
        response = error.response
        retry_after = response.headers.get("retry-after", "")
        raise refused(response.status_code, retry_after, bytes(response.body or b""), time.time()) from error
    except WebSocketException as error:
        raise StreamEnded(LOST, str(error)) from error
    except OSError as error:  # includes TimeoutError
        raise StreamEnded(LOST, str(error) or "timed out") from error


def _connect(opening: Opening, reach: Reach) -> connect:
    uri = "ws" + opening.address("/ws").removeprefix("http")
    options: dict[str, Any] = {
        "create_connection": _Observed,
        "ssl": reach.tls if uri.startswith("wss:") else None,
        "max_size": MAX_LIST_BYTES,
        "max_queue": MAX_QUEUED_FRAMES,
        "open_timeout": opening.timeout_s,
        "close_timeout": CLOSE_TIMEOUT_S,
        "additional_headers": opening.headers,
        "logger": WEBSOCKETS,
        "ping_interval": None,  # On a slow network the pong would wait behind a large message.
    }
    if reach.unix_socket:
        return unix_connect(reach.unix_socket, uri, **options)
    return connect(uri, proxy=True if reach.trust_env else None, **options)


async def _next_text(socket: ClientConnection, silence_s: float) -> str | bytes:
    """Return the next message. It may take long, as long as bytes arrive."""
    since = time.monotonic()
    while True:
        last = max(since, socket.received_at if isinstance(socket, _Observed) else 0.0)
        left_s = last + silence_s - time.monotonic()
        if left_s <= 0:
            socket.transport.abort()  # The server would not answer a close frame.
            raise StreamEnded(LOST, f"silent for {silence_s:g} s")
        try:
            async with asyncio.timeout(left_s):
                return await socket.recv()
        except TimeoutError:
            continue


def _closed(closed: ConnectionClosed) -> StreamEnded:
    """Return why a WebSocket ended: the server's close code, or this client's if it refused a message."""
    if closed.rcvd:
        return StreamEnded(closed.rcvd.code, closed.rcvd.reason)
    if closed.sent and closed.sent.code == TOO_BIG:
        return too_long()
    return StreamEnded(LOST, str(closed.__cause__ or "connection lost"))


async def sse(opening: Opening, reach: Reach) -> AsyncIterator[bytes]:
    """Yield the lists of a text/event-stream (WHATWG HTML section 9.2), one for each block."""
    request = reach.http.build_request(
        "GET", opening.address("/sse"), headers=opening.headers, timeout=_timeout(opening)
    )
    try:
        async with asyncio.timeout(opening.timeout_s):
            answer = await reach.http.send(request, stream=True)
        try:
            if not answer.is_success:
                raise await _refusal(answer)
            if not answer.headers.get("content-type", "").startswith("text/event-stream"):
                raise StreamEnded(LOST, "the answer is not an event stream")
            async for line in _lines(answer):
                if line.startswith(b"data:"):
                    yield line.removeprefix(b"data:")
        finally:
            await answer.aclose()
    except TimeoutError as error:
        raise StreamEnded(LOST, "timed out") from error
    except httpx.HTTPError as error:
        raise _broken(error) from error
    raise StreamEnded(LOST, "the stream ended without a close code")


def _timeout(opening: Opening) -> httpx.Timeout:
    return httpx.Timeout(opening.timeout_s, read=opening.silence_s)


async def _lines(answer: httpx.Response) -> AsyncIterator[bytes]:
    r"""Yield lines that end with `\n`. httpx also splits at U+2028 and others, which may occur inside JSON strings."""
    held = bytearray()
    async for data in answer.aiter_bytes():
        held += data
        if b"\n" in data:
            *lines, held = held.split(b"\n")
            for line in lines:
                yield bytes(line)
        if len(held) > MAX_LIST_BYTES:
            raise too_long()


async def long_poll(opening: Opening, reach: Reach) -> AsyncIterator[bytes]:
    """Yield the list of one long poll."""
    try:
        async with reach.http.stream(
            "GET", opening.address("/listen"), headers=opening.headers, timeout=_timeout(opening)
        ) as answer:
            if not answer.is_success:
                raise await _refusal(answer)
            body = await _body(answer, MAX_LIST_BYTES)
    except httpx.HTTPError as error:
        raise _broken(error) from error
    yield body


async def _body(answer: httpx.Response, max_bytes: int) -> bytes:
    body = bytearray()
    async for data in answer.aiter_bytes():
        body += data
        if len(body) > max_bytes:
            raise too_long()
    return bytes(body)


def _broken(error: httpx.HTTPError) -> StreamEnded:
    return StreamEnded(LOST, str(error) or type(error).__name__)


async def _refusal(answer: httpx.Response) -> StreamEnded:
    """Return why a stream or a poll was refused."""
    try:
        body = await _body(answer, MAX_REFUSAL_BYTES)
    except StreamEnded:
        body = b""
    return refused(answer.status_code, answer.headers.get("retry-after", ""), body, time.time())


TRANSPORTS: tuple[Stream, ...] = (websocket, sse, long_poll)
"""All transports, best first; the last one works behind every proxy."""
BY_HTTP: tuple[Stream, ...] = (sse, long_poll)
"""The transports that an HTTP client can carry."""
