"""The answer to a request, as a value."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Final

from msgspec import Struct

from channelstream.core.headers import Header
from channelstream.errors import ChannelstreamError
from channelstream.http.parts import Parts, encode

JSON: Final = b"application/json"
TEXT: Final = b"text/plain"
EXPOSED: Final[Header] = (b"access-control-expose-headers", b"Retry-After")
"""Lets pages of other origins read Retry-After."""

Body = bytes | Parts | AsyncGenerator[bytes, None]


class Response(Struct, frozen=True):
    """An answer.

    Attributes:
        body: whole, in parts, or as a stream of unknown length, which is closed when no one reads it any more.
        headers: fields besides those that follow from the others.
    """

    body: Body = b""
    status: int = 200
    headers: tuple[Header, ...] = ()
    content_type: bytes = JSON

    @property
    def size(self) -> int | None:
        """The length of the body; None if it is a stream."""
        if isinstance(self.body, bytes):
            return len(self.body)
        return sum(map(len, self.body.parts)) if isinstance(self.body, Parts) else None

    def fields(self) -> list[Header]:
        """Return all header fields that depend on nothing but the answer."""
        size = self.size
        length = [] if size is None else [(b"content-length", b"%d" % size)]
        nosniff = (b"x-content-type-options", b"nosniff")
        return [(b"content-type", self.content_type), *length, nosniff, *self.headers]

    async def parts(self) -> AsyncGenerator[bytes, None]:
        """Yield the body."""
        if isinstance(self.body, bytes):
            yield self.body
        elif isinstance(self.body, Parts):
            for part in self.body.parts:
                yield part
        else:
            async with aclosing(self.body) as stream:
                async for part in stream:
                    yield part


def refusal(error: ChannelstreamError, headers: Sequence[Header] = ()) -> Response:
    """Return the answer for an error.

    Args:
        error: the refusal.
        headers: fields besides those of the error, such as those of CORS.
    """
    exposed = [EXPOSED] if any(name == b"retry-after" for name, _ in error.headers) else []
    return Response(encode(error.body), error.http_status, (*headers, *exposed, *error.headers))
