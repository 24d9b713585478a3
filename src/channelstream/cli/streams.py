"""The three transports from the subscriber's side: each yields items until its stream ends."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import httpx
import msgspec
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.sync.client import ClientConnection, connect, unix_connect

from channelstream.cli.remote import REQUEST_TIMEOUT_S, Server
from channelstream.errors import CloseCode

Item = dict[str, Any]

SILENCE_S = 60.0
"""A stream without even a heartbeat for so long is taken for lost; heartbeats come every few seconds."""
MAX_FRAME_BYTES = 64 << 20
LOST = 1006
"""The stream broke without a word (RFC 6455 section 7.1.5)."""

_CODES = {401: CloseCode.UNKNOWN_CONNECTION, 409: CloseCode.REPLACED, 503: CloseCode.OVERLOADED}
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
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{reason} ({code})" if reason else f"closed ({code})")
        self.code = code


@dataclass(slots=True)
class Place:
    """Where a subscriber is: its connection, and the position of the last event it heard."""

    conn_id: str = ""
    position: str = ""

    @property
    def query(self) -> dict[str, str]:
        return {"conn_id": self.conn_id, "since": self.position}


Stream = Callable[[Server, Place], Iterator[Item]]


def listen_ws(server: Server, place: Place) -> Iterator[Item]:
    """Items of a WebSocket."""
    try:
        with _open_websocket(server, place) as socket:
            while True:
                yield from _items(socket.recv(SILENCE_S))
    except ConnectionClosed as closed:
        raise StreamEnded(
            *((closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (LOST, ""))
        ) from closed
    except InvalidStatus as error:
        raise _refused(error.response.status_code) from error
    except (InvalidHandshake, OSError) as error:
        raise StreamEnded(LOST, str(error)) from error


def _open_websocket(server: Server, place: Place) -> ClientConnection:
    uri = f"ws{server.url.removeprefix('http')}/ws?{urlencode(place.query)}"
    if server.unix_socket:
        return unix_connect(server.unix_socket, uri, ssl=server.tls(), max_size=MAX_FRAME_BYTES)
    return connect(
        uri, ssl=server.tls(), max_size=MAX_FRAME_BYTES, proxy=None, open_timeout=REQUEST_TIMEOUT_S
    )


def listen_sse(server: Server, place: Place) -> Iterator[Item]:
    """Items of a text/event-stream (WHATWG HTML section 9.2); each block is one JSON list."""
    try:
        with server.client(SILENCE_S) as client, client.stream("GET", "/sse", params=place.query) as answer:
            if not answer.is_success:
                raise _refused(answer.status_code, answer.read())
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
            raise StreamEnded(LOST, "a list of items is too long")


def listen_poll(server: Server, place: Place) -> Iterator[Item]:
    """Items of long polls, one after the other."""
    try:
        with server.client(SILENCE_S) as client:
            while True:
                answer = client.get("/listen", params=place.query)
                if not answer.is_success:
                    raise _refused(answer.status_code, answer.content)
                yield from _items(answer.text)
    except httpx.HTTPError as error:
        raise StreamEnded(LOST, str(error)) from error


def _refused(status: int, body: bytes = b"") -> StreamEnded:
    """Why a stream was not opened or a poll ended: an error of the server says the close code itself."""
    try:
        told = _decode_refusal(body)
    except msgspec.MsgspecError:
        return StreamEnded(_CODES.get(status, LOST), f"answered {status}")
    return StreamEnded(told.close_code or _CODES.get(status, LOST), told.error)


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
