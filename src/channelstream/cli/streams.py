"""The three transports from the subscriber's side: each yields items until its stream ends.

Silence is judged by received bytes: a list that takes long to arrive is not cut while some of it arrives.
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
"""A stream without even a heartbeat for so long is taken for lost; heartbeats come every few seconds."""
CLOSE_TIMEOUT_S = 1.0
MAX_FRAME_BYTES = 64 << 20
"""Longest list of items taken; a longer one ends the stream for good, as it would come again."""
LOST = 1006
"""The stream broke without a word (RFC 6455 section 7.1.5)."""

_CODES = {
    401: CloseCode.UNKNOWN_CONNECTION,
    409: CloseCode.REPLACED,
    429: CloseCode.OVERLOADED,
    503: CloseCode.OVERLOADED,
}
"""What HTTP statuses say, as close codes."""


class _Refusal(msgspec.Struct):
    """The part of an error that a stream's reader needs (docs/api.md, "Errors")."""

    error: str
    close_code: int = 0


_decode = msgspec.json.Decoder(list[Item]).decode
_decode_refusal = msgspec.json.Decoder(_Refusal).decode


class StreamEnded(Exception):
    """A stream is over.

    Attributes:
        code: the close code that says why.
        retry_after_s: what an answer said about when to come back, in seconds.
    """

    def __init__(self, code: int, reason: str, retry_after_s: float = 0.0) -> None:
        super().__init__(f"{reason} ({code})" if reason else f"closed ({code})")
        self.code = code
        self.retry_after_s = retry_after_s


@dataclass(slots=True)
class ResumePoint:
    """Where a subscriber is: its connection, and the position of the last event it heard."""

    conn_id: str = ""
    position: str = ""

    @property
    def query(self) -> dict[str, str]:
        return {"conn_id": self.conn_id, "since": self.position}


Stream = Callable[[Server, ResumePoint], Iterator[Item]]


class _Observed(ClientConnection):
    """A WebSocket that knows when bytes arrived last."""

    received_at = 0.0

    def __init__(self, socket: sockets.socket, protocol: ClientProtocol, **options: Any) -> None:
        receive = protocol.receive_data

        def observed(data: bytes | bytearray) -> None:
            self.received_at = time.monotonic()
            receive(data)

        protocol.receive_data = observed  # type: ignore[method-assign]
        super().__init__(socket, protocol, **options)


def listen_ws(server: Server, resume_point: ResumePoint) -> Iterator[Item]:
    """Items of a WebSocket."""
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
        # An answer to a ping would have to wait for a large message on a slow line.
        "ping_interval": None,
    }
    if server.unix_socket:
        return cast(ClientConnection, unix_connect(server.unix_socket, uri, **options))
    return cast(ClientConnection, connect(uri, proxy=None, **options))


def _next_text(socket: ClientConnection) -> str | bytes:
    """The next message, however long it takes while bytes arrive."""
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
    """What ended a WebSocket: the server's code, or ours where a message was refused here."""
    if closed.rcvd:
        return StreamEnded(closed.rcvd.code, closed.rcvd.reason)
    return _too_long() if closed.sent and closed.sent.code == CloseCode.TOO_BIG else StreamEnded(LOST, "")


def listen_sse(server: Server, resume_point: ResumePoint) -> Iterator[Item]:
    """Items of a text/event-stream (WHATWG HTML section 9.2); each block is one JSON list."""
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
    """Lines as the server ends them; those of httpx also end at U+2028 and others, which a JSON text may hold."""
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
    """Items of long polls, one after the other."""
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
    """Why a stream was not opened or a poll ended: an error of the server says the close code itself."""
    wait_s = retry_after_s(retry_after, time.time())
    try:
        refusal = _decode_refusal(body)
    except msgspec.MsgspecError:
        return StreamEnded(_CODES.get(status, LOST), f"answered {status}", wait_s)
    return StreamEnded(refusal.close_code or _CODES.get(status, LOST), refusal.error, wait_s)


def _items(text: str | bytes) -> Iterator[Item]:
    """The items of one JSON list; a last word of SSE and long poll ends the stream."""
    try:
        items = _decode(text)
    except msgspec.MsgspecError as error:
        raise StreamEnded(LOST, f"not a list of items: {error}") from error
    for item in items:
        if item.get("type") == "closing":
            raise StreamEnded(item.get("code", LOST), item.get("reason", ""))
        yield item


STREAMS: dict[str, Stream] = {"ws": listen_ws, "sse": listen_sse, "poll": listen_poll}
