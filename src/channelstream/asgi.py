"""Reading and answering one HTTP request over ASGI: what the API and the long poll share."""

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

import msgspec

from channelstream.core.policy import Header, header
from channelstream.errors import ChannelstreamError, TooLarge, Unavailable

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

JSON = b"application/json"
AT_ONCE = "channelstream.at_once"
"""Key of an extension of the scope (ASGI, "Extensions"): `(status, headers, body) -> bool` sends a whole answer in one
write, or returns False where it has to go the long way. Two ASGI messages cost as much as all else of a small call."""
encode = msgspec.json.Encoder().encode


class ClientGone(Exception):
    """The client left before it had sent its request; nobody waits for an answer."""


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """Return the body of a request, at most `limit` bytes.

    Raises:
        TooLarge: it is longer; decided from its declared length where there is one.
        ClientGone: the client left.
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
    return TooLarge(f"The body is longer than {limit} bytes; see the option max_body_bytes.")


async def answer(
    scope: Scope,
    send: Send,
    status: int,
    body: bytes,
    headers: Sequence[Header] = (),
    content_type: bytes = JSON,
) -> None:
    """Send a whole answer."""
    head = [
        (b"content-type", content_type),
        (b"content-length", b"%d" % len(body)),
        (b"x-content-type-options", b"nosniff"),
        *headers,
    ]
    at_once = scope["extensions"][AT_ONCE] if "extensions" in scope else None
    if at_once is not None and at_once(status, head, body):
        return
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})


async def refuse(scope: Scope, send: Send, error: ChannelstreamError, headers: Sequence[Header] = ()) -> None:
    """Answer with an error."""
    extra = list(headers)
    if isinstance(error, Unavailable):
        extra.append((b"retry-after", b"%d" % error.retry_after_s))
    if isinstance(error, TooLarge):
        extra.append((b"connection", b"close"))
    await answer(scope, send, error.http_status, encode(error.body), extra)
