"""The socket of a transport, for writes that go past the transport.

uvloop takes 1 us for a write besides the system call, and `socket.send` 0.2 us (docs/performance.md).

Invariant: the borrower of a socket calls `detach` when its transport is lost. Until then the transport keeps the descriptor
open; later the descriptor may be that of another client, and each write to a detached socket raises OSError. Bytes that wait
in the transport must come first, so a socket is written to only while there are none.
"""

import asyncio
import socket

from channelstream.http.line import is_tls


class LentSocket(socket.SocketType):
    """A socket whose descriptor another object owns."""

    __slots__ = ()

    def __del__(self) -> None:
        """Leave the descriptor open, which `socket.socket` would close."""


def lent_socket(transport: asyncio.Transport) -> LentSocket | None:
    """Return the socket of a transport; None if it has TLS, or no socket."""
    own = transport.get_extra_info("socket")
    if own is None or is_tls(transport):
        return None
    return LentSocket(own.family, own.type, own.proto, own.fileno())
