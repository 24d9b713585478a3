"""The three transports. Each yields the JSON lists of one stream until it ends, and then raises `StreamEnded`.

The silence timeout counts from the last received byte: a long list may take longer, as long as bytes arrive.
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
"""A stream without any bytes for so long counts as lost. The server sends heartbeats every few seconds."""
OPEN_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 1.0
MAX_FRAME_BYTES = 64 << 20
"""Longest list of items. A longer one ends listening, because a replay would send it again."""
MAX_REFUSAL_BYTES = 65_536
"""Longest body of a refusal that is read."""
MAX_QUEUED_FRAMES = 4
"""WebSocket frames that are queued before the client stops reading from the socket."""
SHORTEST_POLL_S = 1.0
"""Least time between the start of an empty poll and the next one: a proxy may answer at once."""

NORMAL = 1000
GOING_AWAY = 1001
LOST = 1006
"""The stream broke without a close frame (RFC 6455 section 7.1.5)."""
TOO_BIG = 1009
OVERLOADED = 1013
UNKNOWN_CONNECTION = 4001
REPLACED = 4002

Item = dict[str, Any]
_CODES = {401: UNKNOWN_CONNECTION, 409: REPLACED, 429: OVERLOADED, 503: OVERLOADED}
"""Close codes of HTTP statuses."""


class StreamEnded(Exception):
    """A stream has ended.

    Attributes:
        code: the close code.
        retry_after_s: the wait that the server asks for, in seconds.
        status: HTTP status of a refusal without close code, perhaps from a proxy. None: the stream was open, there was no
            answer, or the answer has a close code.
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
    """The address of a stream, and its timeouts.

    Attributes:
        url: the server's address.
        conn_id: the connection.
        position: position of the last event; empty means new events only. `Pump` updates it, and the next poll starts there.
        reach: TLS context and HTTP client for the server.
        open_timeout_s: how long opening may take.
        silence_s: how long no bytes may arrive.
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
        return self.reach.tls if httpx.URL(self.url).scheme == "https" else None

    @property
    def timeout(self) -> httpx.Timeout:
        return httpx.Timeout(self.open_timeout_s, read=self.silence_s)


Stream = Callable[[StreamTarget], AsyncIterator[str | bytes]]


class _Observed(ClientConnection):
    """A WebSocket that records when the last bytes arrived."""

    received_at = 0.0

    def data_received(self, data: bytes) -> None:
        self.received_at = time.monotonic()
        super().data_received(data)


async def websocket(target: StreamTarget) -> AsyncIterator[str | bytes]:
    """Yield the lists of a WebSocket."""
    try:
        # No pings: on a slow network the pong would wait behind a large message.
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
                # Not 1000: it would end the connection, not only the stream.
                await socket.close(GOING_AWAY)
    except ConnectionClosed as closed:
        raise _closed(closed) from closed
    except InvalidStatus as error:
        response = error.response
        retry_after = response.headers.get("retry-after", "")
        raise refused(response.status_code, retry_after, bytes(response.body or b"")) from error
    except WebSocketException as error:
        raise StreamEnded(LOST, str(error)) from error
    except OSError as error:  # includes TimeoutError
        raise StreamEnded(LOST, str(error) or "timed out") from error


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
        return _too_long()
    return StreamEnded(LOST, str(closed.__cause__ or "connection lost"))


async def sse(target: StreamTarget) -> AsyncIterator[bytes]:
    """Yield the lists of a text/event-stream (WHATWG HTML section 9.2), one for each block."""
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
    r"""Yield lines that end with `\n`. httpx also splits at U+2028 and others, which may occur inside JSON strings."""
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
    """Yield the lists of consecutive long polls. Each poll starts at the position that `Pump` has set."""
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
    """Return why a stream or a poll was refused."""
    try:
        body = await _body(answer, MAX_REFUSAL_BYTES)
    except StreamEnded:
        body = b""
    return refused(answer.status_code, answer.headers.get("retry-after", ""), body)


def refused(status: int, retry_after: str, body: bytes = b"") -> StreamEnded:
    """Return why a stream was refused: by the close code in the body, or else by the status, which may be a proxy's."""
    wait_s = seconds_to_wait(retry_after, time.time()) or 0.0
    try:
        said = json.loads(body)
    except ValueError:
        said = None
    if isinstance(said, dict) and isinstance(said.get("close_code"), int):
        return StreamEnded(said["close_code"], str(said.get("error", "")), wait_s)
    return StreamEnded(_CODES.get(status, LOST), f"answered {status}", wait_s, status)


def items_of(text: str | bytes) -> list[Item]:
    """Return the items of one JSON list.

    Raises:
        StreamEnded: the text is not a JSON list, so it does not come from channelstream.
    """
    try:
        items = json.loads(text)
    except ValueError:
        items = None
    if not isinstance(items, list):
        raise StreamEnded(LOST, "not a list of items")
    return items


def closing_of(items: list[Item]) -> StreamEnded | None:
    """Return the end of the stream from a `closing` item, which SSE and long poll send last; None without one."""
    for item in items:
        if isinstance(item, dict) and item.get("type") == "closing":
            code = item.get("code")
            return StreamEnded(code if isinstance(code, int) else LOST, str(item.get("reason", "")))
    return None


TRANSPORTS: tuple[Stream, ...] = (websocket, sse, long_poll)
"""All transports, best first; the last one works behind every proxy."""
BY_HTTP: tuple[Stream, ...] = (sse, long_poll)
"""The transports that an HTTP client can carry."""
