"""The three transports of a subscriber. Each yields items until its stream ends, and raises `StreamEnded`.

The silence timeout counts from the last received byte: a long list may take longer, as long as bytes arrive.
"""

import socket as sockets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlencode

import httpx
import msgspec
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.sync.client import ClientConnection, connect, unix_connect

from channelstream.cli.reconnect import retry_after_s
from channelstream.cli.remote import REQUEST_TIMEOUT_S, Server
from channelstream.errors import CloseCode

Item = dict[str, Any]

SILENCE_S = 60.0
"""A stream without any bytes for so long counts as lost. The server sends heartbeats every few seconds."""
CLOSE_TIMEOUT_S = 1.0
MAX_FRAME_BYTES = 64 << 20
"""Longest list of items. A longer one ends listening, because a replay would send it again."""
LOST = 1006
"""The stream broke without a close frame (RFC 6455 section 7.1.5)."""

_CODES = {
    401: CloseCode.UNKNOWN_CONNECTION,
    409: CloseCode.REPLACED,
    429: CloseCode.OVERLOADED,
    503: CloseCode.OVERLOADED,
}
"""Close codes of HTTP statuses."""


class _Refusal(msgspec.Struct):
    """The fields of an error answer that matter here (docs/api.md, "Errors")."""

    error: str
    close_code: int = 0


_decode = msgspec.json.Decoder(list[Item]).decode
_decode_refusal = msgspec.json.Decoder(_Refusal).decode


class StreamEnded(Exception):
    """A stream has ended.

    Attributes:
        code: the close code.
        retry_after_s: the wait that an error answer asks for, in seconds.
    """

    def __init__(self, code: int, reason: str, retry_after_s: float = 0.0) -> None:
        super().__init__(f"{reason} ({code})" if reason else f"closed ({code})")
        self.code = code
        self.retry_after_s = retry_after_s


@dataclass(slots=True)
class ResumePoint:
    """From where a subscriber resumes: its connection, and the position of the last event it received."""

    conn_id: str = ""
    position: str = ""

    @property
    def query(self) -> dict[str, str]:
        return {"conn_id": self.conn_id, "since": self.position}


Stream = Callable[[Server, ResumePoint], Iterator[Item]]


class _Observed(ClientConnection):
    """A WebSocket that records when the last bytes arrived."""

    received_at = 0.0

    def __init__(self, socket: sockets.socket, protocol: ClientProtocol, **options: Any) -> None:
        receive = protocol.receive_data

        def observed(data: bytes | bytearray) -> None:
            self.received_at = time.monotonic()
            receive(data)

        protocol.receive_data = observed  # type: ignore[method-assign]
        super().__init__(socket, protocol, **options)


def listen_ws(server: Server, resume_point: ResumePoint) -> Iterator[Item]:
    """Yield the items of a WebSocket."""
    try:
        with _open_websocket(server, resume_point) as socket:
            while True:
                yield from _items(_next_text(socket))
    except ConnectionClosed as closed:
        raise _closed(closed) from closed
    except InvalidStatus as error:
        headers, body = error.response.headers, error.response.body or b""
        raise _refused(error.response.status_code, bytes(body), headers.get("retry-after", "")) from error
    except (InvalidHandshake, OSError) as error:
        raise StreamEnded(LOST, str(error)) from error


def _open_websocket(server: Server, resume_point: ResumePoint) -> ClientConnection:
    uri = f"ws{server.url.removeprefix('http')}/ws?{urlencode(resume_point.query)}"
    options: dict[str, Any] = {
        "ssl": server.tls(),
        "max_size": MAX_FRAME_BYTES,
        "open_timeout": REQUEST_TIMEOUT_S,
        "close_timeout": CLOSE_TIMEOUT_S,
        "create_connection": _Observed,
        # No pings: on a slow network the pong would wait behind a large message.
        "ping_interval": None,
    }
    if server.unix_socket:
        return cast(ClientConnection, unix_connect(server.unix_socket, uri, **options))
    return cast(ClientConnection, connect(uri, proxy=None, **options))


def _next_text(socket: ClientConnection) -> str | bytes:
    """Return the next message. It may take long, as long as bytes arrive."""
    since = time.monotonic()
    while True:
        last = max(since, socket.received_at if isinstance(socket, _Observed) else 0.0)
        left_s = last + SILENCE_S - time.monotonic()
        if left_s <= 0:
            raise StreamEnded(LOST, f"silent for {SILENCE_S:g} s")
        try:
            return socket.recv(left_s)
        except TimeoutError:
            continue


def _closed(closed: ConnectionClosed) -> StreamEnded:
    """Return why a WebSocket ended: the server's close code, or this client's if it refused a message."""
    if closed.rcvd:
        return StreamEnded(closed.rcvd.code, closed.rcvd.reason)
    return _too_long() if closed.sent and closed.sent.code == CloseCode.TOO_BIG else StreamEnded(LOST, "")


def listen_sse(server: Server, resume_point: ResumePoint) -> Iterator[Item]:
    """Yield the items of a text/event-stream (WHATWG HTML section 9.2). Each block is one JSON list."""
    try:
        with (
            server.client(SILENCE_S) as client,
            client.stream("GET", "/sse", params=resume_point.query) as answer,
        ):
            if not answer.is_success:
                raise _refused_by(answer, _body(answer))
            for line in _lines(answer):
                if line.startswith(b"data:"):
                    yield from _items(line.removeprefix(b"data:"))
    except httpx.HTTPError as error:
        raise StreamEnded(LOST, str(error)) from error
    raise StreamEnded(LOST, "")


def _lines(answer: httpx.Response) -> Iterator[bytes]:
    r"""Yield lines that end with `\n`. httpx also splits at U+2028 and others, which may occur inside JSON strings."""
    held = bytearray()
    for data in answer.iter_bytes():
        held += data
        if b"\n" in data:
            *lines, held = held.split(b"\n")
            for line in lines:
                yield bytes(line)
        if len(held) > MAX_FRAME_BYTES:
            raise _too_long()


def _too_long() -> StreamEnded:
    return StreamEnded(CloseCode.TOO_BIG, f"a list of items is longer than {MAX_FRAME_BYTES} bytes")


def listen_poll(server: Server, resume_point: ResumePoint) -> Iterator[Item]:
    """Yield the items of consecutive long polls."""
    try:
        with server.client(SILENCE_S) as client:
            while True:
                with client.stream("GET", "/listen", params=resume_point.query) as answer:
                    body = _body(answer)
                if not answer.is_success:
                    raise _refused_by(answer, body)
                yield from _items(body)
    except httpx.HTTPError as error:
        raise StreamEnded(LOST, str(error)) from error


def _body(answer: httpx.Response) -> bytes:
    body = bytearray()
    for data in answer.iter_bytes():
        body += data
        if len(body) > MAX_FRAME_BYTES:
            raise _too_long()
    return bytes(body)


def _refused_by(answer: httpx.Response, body: bytes) -> StreamEnded:
    return _refused(answer.status_code, body, answer.headers.get("retry-after", ""))


def _refused(status: int, body: bytes, retry_after: str) -> StreamEnded:
    """Return why a stream was refused or a poll ended: by the close code in the answer, or else by the status."""
    wait_s = retry_after_s(retry_after, time.time())
    try:
        refusal = _decode_refusal(body)
    except msgspec.MsgspecError:
        return StreamEnded(_CODES.get(status, LOST), f"answered {status}", wait_s)
    return StreamEnded(refusal.close_code or _CODES.get(status, LOST), refusal.error, wait_s)


def _items(text: str | bytes) -> Iterator[Item]:
    """Yield the items of one JSON list. A `closing` item, which SSE and long poll send at the end, ends the stream."""
    try:
        items = _decode(text)
    except msgspec.MsgspecError as error:
        raise StreamEnded(LOST, f"not a list of items: {error}") from error
    for item in items:
        if item.get("type") == "closing":
            raise StreamEnded(item.get("code", LOST), item.get("reason", ""))
        yield item


STREAMS: dict[str, Stream] = {"ws": listen_ws, "sse": listen_sse, "poll": listen_poll}
