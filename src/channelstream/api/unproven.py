"""Bodies of requests that only the body proves: a stranger can begin as many as there are sockets, so they share a bound."""

from channelstream.errors import Unavailable
from channelstream.http.request import Request

UNPROVEN_BYTES = 64 << 20
"""Bytes of all such bodies that are being received; one alone may be longer."""


class UnprovenBodies:
    """Reads them, within the bound."""

    def __init__(self) -> None:
        self._bytes = 0

    async def read(self, request: Request, limit: int) -> bytes:
        """Return the body of a request, as `Request.read` does.

        Raises:
            Unavailable: too many are being received.
        """
        length = request.head.body_bytes
        needed = limit if length is None else min(length, limit)
        if self._bytes and self._bytes + needed > UNPROVEN_BYTES:
            raise Unavailable(
                "Too many bodies are being received whose signatures are not proven yet: send their Content-Digest, or try"
                " again later."
            )
        self._bytes += needed
        try:
            return await request.read(limit)
        finally:
            self._bytes -= needed
