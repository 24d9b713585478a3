"""Reads and answers one HTTP request over ASGI, for the API, the long poll and refusals."""

from collections.abc import Awaitable, Callable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import Raw

from channelstream.core.policy import Header, Policy, header
from channelstream.errors import ChannelstreamError, TooLarge
from channelstream.slices import STEP, Slices

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

JSON = b"application/json"
WHOLE_ANSWER = "channelstream.at_once"
"""Key of an extension of the scope (ASGI, "Extensions"): `(status, headers, body) -> bool` sends a whole answer in
one write, or returns False if the transport is full. Two ASGI messages cost as much as all else of a small call."""
EXPOSED: Header = (b"access-control-expose-headers", b"Retry-After")
"""Lets pages of other origins read Retry-After."""
PART_BYTES = 65_536
"""Length of a part of a long answer; a longer piece that is encoded already stays whole."""
encode = msgspec.json.Encoder().encode

Piece = bytes | Raw


class ClientGone(Exception):
    """The client disconnected before it had sent its whole request; no answer is possible."""


class Head:
    """The head of a request as authentication reads it (`auth.base.AuthRequest`)."""

    __slots__ = ("_policy", "_scope")

    def __init__(self, scope: Scope, policy: Policy) -> None:
        self._scope = scope
        self._policy = policy

    @property
    def method(self) -> str:
        return str(self._scope["method"])

    @property
    def path(self) -> str:
        return str(self._scope["path"])

    @property
    def raw_path(self) -> bytes:
        return bytes(self._scope["raw_path"])

    @property
    def query(self) -> bytes:
        return bytes(self._scope["query_string"])

    @property
    def headers(self) -> Sequence[Header]:
        headers: Sequence[Header] = self._scope["headers"]
        return headers

    @property
    def address(self) -> str:
        return self._policy.client(self._scope)


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """Return the body of a request, at most `limit` bytes.

    Raises:
        TooLarge: it is longer, also by its declared length.
        ClientGone: the client disconnected.
    """
    declared = header(scope["headers"], b"content-length")
    if declared is not None and declared.isdigit() and int(declared) > limit:
        raise _too_large(limit)
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        part: bytes = message.get("body", b"")
        body += part
        if len(body) > limit:
            raise _too_large(limit)
        if not message.get("more_body", False):
            return bytes(body)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(
        f"Send a body of at most {limit} bytes; the option max_body_bytes bounds those of signed calls."
    )


async def answer(
    scope: Scope,
    send: Send,
    status: int,
    body: bytes,
    headers: Sequence[Header] = (),
    content_type: bytes = JSON,
) -> None:
    """Send a whole answer."""
    await _send(scope, send, status, _head(len(body), headers, content_type), body)


@dataclass(frozen=True, slots=True)
class Parts:
    """A long JSON answer in parts, since a single one would be copied several times in one loop turn."""

    parts: Sequence[bytes]


async def in_parts(value: object, turns: Slices) -> Parts:
    """Encode a long answer in short loop turns; `Raw` values are encoded already."""
    parts: list[bytes] = []
    waiting: list[Piece] = []
    size = 0
    for number, piece in enumerate(_pieces(value)):
        waiting.append(piece)
        size += memoryview(piece).nbytes
        if size >= PART_BYTES:
            parts.append(b"".join(waiting))
            waiting, size = [], 0
            await turns.due()
        elif number % STEP == 0:  # A part of very small pieces takes longer than a turn.
            await turns.due()
    return Parts([*parts, b"".join(waiting)])


def _pieces(value: object) -> Iterator[Piece]:
    """Yield the JSON of a value; of a list or an object item by item, if any item is a list, an object or `Raw`."""
    if isinstance(value, Raw):
        yield value
    elif isinstance(value, dict) and any(map(_is_more, value.values())):
        for number, (key, item) in enumerate(value.items()):
            yield b"%b%b:" % (b"," if number else b"{", encode(key))
            yield from _pieces(item)
        yield b"}"
    elif isinstance(value, list) and any(map(_is_more, value)):
        for number, item in enumerate(value):
            yield b"," if number else b"["
            yield from _pieces(item)
        yield b"]"
    else:
        yield encode(value)


def _is_more(value: object) -> bool:
    return isinstance(value, dict | list | Raw)


async def answer_in_parts(scope: Scope, send: Send, value: Parts, headers: Sequence[Header] = ()) -> None:
    """Send a long answer, part by part as the transport has room."""
    scope.pop("extensions", None)
    size = sum(map(len, value.parts))
    await send({"type": "http.response.start", "status": 200, "headers": _head(size, headers, JSON)})
    for part in value.parts:
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body"})


async def refuse(scope: Scope, send: Send, error: ChannelstreamError, headers: Sequence[Header] = ()) -> None:
    """Answer with an error."""
    await _send(scope, send, *refusal(error, headers))


def refusal(error: ChannelstreamError, headers: Sequence[Header] = ()) -> tuple[int, list[Header], bytes]:
    """Return status, header fields and body of an error's answer.

    Args:
        error: the refusal.
        headers: fields besides those of the error, such as those of CORS.
    """
    body = encode(error.body)
    exposed = [EXPOSED] if any(name == b"retry-after" for name, _ in error.headers) else []
    return error.http_status, _head(len(body), [*headers, *exposed, *error.headers], JSON), body


def _head(size: int, headers: Sequence[Header], content_type: bytes) -> list[Header]:
    return [
        (b"content-type", content_type),
        (b"content-length", b"%d" % size),
        (b"x-content-type-options", b"nosniff"),
        *headers,
    ]


async def _send(scope: Scope, send: Send, status: int, head: list[Header], body: bytes) -> None:
    at_once = scope["extensions"][WHOLE_ANSWER] if "extensions" in scope else None
    if at_once is not None and at_once(status, head, body):
        return
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})
