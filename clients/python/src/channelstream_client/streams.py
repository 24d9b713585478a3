"""The three transports: each yields the lists of one stream, as text, until it ends, and raises why it did.

Silence is judged by received bytes: a list that takes long to arrive is not cut while some of it arrives.
"""

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from channelstream_client.reach import Reach
from channelstream_client.retry_after import seconds_to_wait

SILENCE_S = 60.0
"""A stream without even a heartbeat for so long is taken for lost; heartbeats come every few seconds."""
OPEN_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 1.0
MAX_FRAME_BYTES = 64 << 20
"""Longest list of items taken; a longer one ends the stream for good, as it would come again."""
MAX_REFUSAL_BYTES = 65_536
"""How much of the body of a refusal is read."""
MAX_QUEUED_FRAMES = 4
"""WebSocket frames that wait to be read before the connection is not read any further."""
SHORTEST_POLL_S = 1.0
"""How soon after an empty poll the next one begins, at the earliest: a proxy may answer at once."""

NORMAL = 1000
GOING_AWAY = 1001
LOST = 1006
"""The stream broke without a word (RFC 6455 section 7.1.5)."""
TOO_BIG = 1009
OVERLOADED = 1013
UNKNOWN_CONNECTION = 4001
REPLACED = 4002

Item = dict[str, Any]
_CODES = {401: UNKNOWN_CONNECTION, 409: REPLACED, 429: OVERLOADED, 503: OVERLOADED}
"""What HTTP statuses say, as close codes."""


class StreamEnded(Exception):
    """One stream is over.

    Attributes:
        code: the close code that says why.
        retry_after_s: what the server said about when to come back, in seconds.
        status: the HTTP status of a stream that was not opened; perhaps a proxy's. None: it was open, or nobody answered.
    """

    def __init__(self, code: int, reason: str, retry_after_s: float = 0.0, status: int | None = None) -> None:
        super().__init__(code, reason, retry_after_s, status)
        self.code = code
        self.reason = reason
        self.retry_after_s = retry_after_s
        self.status = status

    def __str__(self) -> str:
        return f"{self.reason} ({self.code})" if self.reason else f"closed ({self.code})"


@dataclass(slots=True)
class StreamTarget:
    """Where a stream is read from.

    Attributes:
        url: the server's address.
        conn_id: the connection.
        position: up to where it is read; empty means from now on. The reader moves it on, and polls ask from there.
        reach: how to get to the server.
        open_timeout_s: how long opening may take.
        silence_s: how long nothing at all may arrive.
    """

    url: str
    conn_id: str
    position: str
    reach: Reach
    open_timeout_s: float = OPEN_TIMEOUT_S
    silence_s: float = SILENCE_S

    def address(self, path: str) -> str:
        return f"{self.url}{path}?{urlencode({'conn_id': self.conn_id, 'since': self.position})}"

    @property
    def tls(self) -> ssl.SSLContext | None:
        return self.reach.tls if self.url.startswith("https:") else None

    @property
    def timeout(self) -> httpx.Timeout:
        return httpx.Timeout(self.open_timeout_s, read=self.silence_s)


Stream = Callable[[StreamTarget], AsyncIterator[str | bytes]]


class _Observed(ClientConnection):
    """A WebSocket that knows when bytes arrived last."""

    received_at = 0.0

    def data_received(self, data: bytes) -> None:
        self.received_at = time.monotonic()
        super().data_received(data)


async def websocket(target: StreamTarget) -> AsyncIterator[str | bytes]:
    """Lists of a WebSocket."""
    try:
        # Without pings of our own: an answer to them would have to wait for a large message on a slow line.
        async with connect(
            "ws" + target.address("/ws").removeprefix("http"),
            create_connection=_Observed,
            ssl=target.tls,
            proxy=True if target.reach.trust_env else None,
            max_size=MAX_FRAME_BYTES,
            max_queue=MAX_QUEUED_FRAMES,
            open_timeout=target.open_timeout_s,
            close_timeout=CLOSE_TIMEOUT_S,
            ping_interval=None,
        ) as socket:
            try:
                while True:
                    yield await _next_text(socket, target.silence_s)
            finally:
                # Not 1000, with which a client ends its connection.
                await socket.close(GOING_AWAY)
    except ConnectionClosed as closed:
        raise _closed(closed) from closed
    except InvalidStatus as error:
        response = error.response
        retry_after = response.headers.get("retry-after", "")
        raise refused(response.status_code, retry_after, bytes(response.body or b"")) from error
    except WebSocketException as error:
        raise StreamEnded(LOST, str(error)) from error
    except OSError as error:  # TimeoutError is one
        raise StreamEnded(LOST, str(error) or "timed out") from error


async def _next_text(socket: ClientConnection, silence_s: float) -> str | bytes:
    """The next message, however long it takes while bytes arrive."""
    since = time.monotonic()
    while True:
        last = max(since, socket.received_at if isinstance(socket, _Observed) else 0.0)
        left_s = last + silence_s - time.monotonic()
        if left_s <= 0:
            socket.transport.abort()  # Nobody would answer a close frame.
            raise StreamEnded(LOST, f"silent for {silence_s:g} s")
        try:
            async with asyncio.timeout(left_s):
                return await socket.recv()
        except TimeoutError:
            continue


def _closed(closed: ConnectionClosed) -> StreamEnded:
    """What ended a WebSocket: the server's code, or ours where we refused a message."""
    if closed.rcvd:
        return StreamEnded(closed.rcvd.code, closed.rcvd.reason)
    if closed.sent and closed.sent.code == TOO_BIG:
        return _too_long()
    return StreamEnded(LOST, str(closed.__cause__ or "connection lost"))


async def sse(target: StreamTarget) -> AsyncIterator[bytes]:
    """Lists of a text/event-stream (WHATWG HTML section 9.2), one in each block."""
    request = target.reach.http.build_request("GET", target.address("/sse"), timeout=target.timeout)
    try:
        async with asyncio.timeout(target.open_timeout_s):
            answer = await target.reach.http.send(request, stream=True)
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


async def _lines(answer: httpx.Response) -> AsyncIterator[bytes]:
    """Lines as the server ends them; those of httpx also end at U+2028 and others, which a JSON text may hold."""
    held = bytearray()
    async for data in answer.aiter_bytes():
        held += data
        if b"\n" in data:
            *lines, held = held.split(b"\n")
            for line in lines:
                yield bytes(line)
        if len(held) > MAX_FRAME_BYTES:
            raise _too_long()


async def long_poll(target: StreamTarget) -> AsyncIterator[bytes]:
    """Lists of long polls, one after the other, each from the position that its reader has reached."""
    http = target.reach.http
    try:
        while True:
            began = time.monotonic()
            async with http.stream("GET", target.address("/listen"), timeout=target.timeout) as answer:
                if not answer.is_success:
                    raise await _refusal(answer)
                body = await _body(answer, MAX_FRAME_BYTES)
            yield body
            if len(body) <= len(b"[]"):
                await asyncio.sleep(began + SHORTEST_POLL_S - time.monotonic())
    except httpx.HTTPError as error:
        raise _broken(error) from error


async def _body(answer: httpx.Response, max_bytes: int) -> bytes:
    body = bytearray()
    async for data in answer.aiter_bytes():
        body += data
        if len(body) > max_bytes:
            raise _too_long()
    return bytes(body)


def _broken(error: httpx.HTTPError) -> StreamEnded:
    return StreamEnded(LOST, str(error) or type(error).__name__)


def _too_long() -> StreamEnded:
    return StreamEnded(TOO_BIG, f"a list of items is longer than {MAX_FRAME_BYTES} bytes")


async def _refusal(answer: httpx.Response) -> StreamEnded:
    """Why a stream was not opened, or a poll ended."""
    try:
        body = await _body(answer, MAX_REFUSAL_BYTES)
    except StreamEnded:
        body = b""
    return refused(answer.status_code, answer.headers.get("retry-after", ""), body)


def refused(status: int, retry_after: str, body: bytes = b"") -> StreamEnded:
    """Why a stream was not opened: by the close code in the body, or else by the status, which may be a proxy's."""
    wait_s = seconds_to_wait(retry_after, time.time()) or 0.0
    try:
        said = json.loads(body)
    except ValueError:
        said = None
    if isinstance(said, dict) and isinstance(said.get("close_code"), int):
        return StreamEnded(said["close_code"], str(said.get("error", "")), wait_s)
    return StreamEnded(_CODES.get(status, LOST), f"answered {status}", wait_s, status)


def items_of(text: str | bytes) -> list[Item]:
    """The items of one JSON list.

    Raises:
        StreamEnded: it is none, so something else than the server is speaking.
    """
    try:
        items = json.loads(text)
    except ValueError:
        items = None
    if not isinstance(items, list):
        raise StreamEnded(LOST, "not a list of items")
    return items


def closing_of(items: list[Item]) -> StreamEnded | None:
    """The end that a last item of SSE tells; None where there is none."""
    for item in items:
        if isinstance(item, dict) and item.get("type") == "closing":
            code = item.get("code")
            return StreamEnded(code if isinstance(code, int) else LOST, str(item.get("reason", "")))
    return None


TRANSPORTS: tuple[Stream, ...] = (websocket, sse, long_poll)
"""From the best to the one that always gets through."""
BY_HTTP: tuple[Stream, ...] = (sse, long_poll)
"""Those that an HTTP client carries."""
