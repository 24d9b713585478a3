"""The three transports: each yields the lists of items of one stream until it ends, and raises why it did."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from urllib.parse import urlencode

import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

SILENCE_S = 60.0
"""A stream without even a heartbeat for so long is taken for lost; heartbeats come every few seconds."""
OPEN_TIMEOUT_S = 10.0
MAX_FRAME_BYTES = 64 << 20
"""Longest list of items taken; a longer one ends the stream, which then resumes."""
NORMAL = 1000
LOST = 1006
"""The stream broke without a word (RFC 6455 section 7.1.5)."""
RESTARTING = 1012
UNKNOWN_CONNECTION = 4001
REPLACED = 4002

Item = dict[str, Any]
_CODES = {401: UNKNOWN_CONNECTION, 409: REPLACED, 503: RESTARTING}
"""What HTTP statuses say, as close codes."""


class StreamEnded(Exception):
    """One stream is over.

    Attributes:
        code: the close code that says why.
        retry_after_s: what the server said about when to come back, in seconds.
    """

    def __init__(self, code: int, reason: str, retry_after_s: float = 0.0) -> None:
        super().__init__(code, reason, retry_after_s)
        self.code = code
        self.reason = reason
        self.retry_after_s = retry_after_s


class NotOffered(StreamEnded):
    """This transport does not get through: a proxy, perhaps. Another one may."""

    def __init__(self, reason: str) -> None:
        super().__init__(LOST, reason)
        self.args = (reason,)


@dataclass(frozen=True, slots=True)
class Place:
    """A connection on a server, and the position to resume from; empty means from now on."""

    url: str
    conn_id: str
    position: str

    def address(self, path: str) -> str:
        return f"{self.url}{path}?{urlencode({'conn_id': self.conn_id, 'since': self.position})}"


Stream = Callable[[Place], AsyncIterator[list[Item]]]


async def websocket(place: Place) -> AsyncIterator[list[Item]]:
    """Items of a WebSocket."""
    uri = "ws" + place.address("/ws").removeprefix("http")
    try:
        async with connect(uri, max_size=MAX_FRAME_BYTES, open_timeout=OPEN_TIMEOUT_S) as socket:
            while True:
                async with asyncio.timeout(SILENCE_S):
                    text = await socket.recv()
                yield items_of(text)
    except ConnectionClosed as closed:
        said = closed.rcvd
        raise StreamEnded(said.code if said else LOST, said.reason if said else "") from closed
    except InvalidStatus as error:
        raise refused(error.response.status_code, error.response.headers.get("retry-after", "")) from error
    except InvalidHandshake as error:
        raise NotOffered(str(error)) from error
    except OSError as error:  # TimeoutError is one
        raise StreamEnded(LOST, str(error) or "silence") from error


async def sse(place: Place) -> AsyncIterator[list[Item]]:
    """Items of a text/event-stream (WHATWG HTML section 9.2); each block is one JSON list."""
    try:
        async with _http() as client, client.stream("GET", place.address("/sse")) as answer:
            if not answer.is_success:
                await answer.aread()
                raise refused_by(answer)
            if not answer.headers.get("content-type", "").startswith("text/event-stream"):
                raise NotOffered("the answer is no event stream")
            async for line in _lines(answer):
                if line.startswith(b"data:"):
                    yield items_of(line.removeprefix(b"data:"))
    except httpx.HTTPError as error:
        raise StreamEnded(LOST, str(error)) from error
    raise StreamEnded(LOST, "")


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
            raise StreamEnded(LOST, "a list of items is too long")


async def long_poll(place: Place) -> AsyncIterator[list[Item]]:
    """Items of one long poll; the next one takes the position that its items brought."""
    try:
        async with _http() as client:
            answer = await client.get(place.address("/listen"))
    except httpx.HTTPError as error:
        raise StreamEnded(LOST, str(error)) from error
    if not answer.is_success:
        raise refused_by(answer)
    yield items_of(answer.text)


def _http() -> httpx.AsyncClient:
    return httpx.AsyncClient(timeout=httpx.Timeout(OPEN_TIMEOUT_S, read=SILENCE_S))


def refused_by(answer: httpx.Response) -> StreamEnded:
    """Why a stream was not opened or a poll ended, by an answer that was read."""
    try:
        body = answer.json()
    except ValueError:
        body = None
    told = body if isinstance(body, dict) else {}
    return refused(answer.status_code, answer.headers.get("retry-after", ""), told)


def refused(status: int, retry_after: str, told: Mapping[str, Any] = MappingProxyType({})) -> StreamEnded:
    """Why a stream was not opened; a status the server does not use here comes from something between.

    A fault of that (5xx) may pass, as while the server restarts; anything else will not.

    Args:
        told: the body of the answer, if it is an object; its `close_code` counts before the status.
    """
    if status not in _CODES:
        return StreamEnded(LOST, f"answered {status}") if status >= 500 else NotOffered(f"answered {status}")
    wait_s = float(retry_after) if retry_after.isascii() and retry_after.isdigit() else 0.0
    code, reason = told.get("close_code"), told.get("error", f"answered {status}")
    return StreamEnded(code if isinstance(code, int) else _CODES[status], str(reason), wait_s)


def items_of(text: str | bytes) -> list[Item]:
    """The items of one JSON list.

    Raises:
        NotOffered: it is none, so something else than the server is speaking.
    """
    try:
        items = json.loads(text)
    except ValueError:
        items = None
    if not isinstance(items, list):
        raise NotOffered("not a list of items")
    return items


TRANSPORTS: tuple[Stream, ...] = (websocket, sse, long_poll)
"""From the best to the one that always gets through."""
