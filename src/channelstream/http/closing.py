"""Closing of sockets: many in short loop turns, and TLS without waiting for a client that does not answer.

A client of TLS need not answer the closing alert (RFC 8446, 6.1), and one with idle connections in a pool does not;
the loop would wait for it. So a TLS socket is dropped once the client has acknowledged all bytes.
"""

import asyncio
from collections.abc import Callable

from channelstream.http.line import ack_progress, acknowledged, is_tls
from channelstream.slices import TurnQueue

CHECK_S = 0.1
"""Interval at which a closing TLS socket is checked, in seconds."""
AT_ONCE = 50
"""Sockets closed in one loop turn: 20 to 40 us each, half of it in the kernel."""


class ClosingQueue:
    """Closes sockets whose clients have closed their side, and ends streams, a few in each loop turn."""

    def __init__(self) -> None:
        self._queue = TurnQueue(AT_ONCE)

    def close(self, transport: asyncio.Transport) -> bool:
        """Close a socket soon, after the bytes written to it.

        Returns:
            The result for `eof_received`: whether the loop leaves the closing to us; with TLS it does not.
        """
        if is_tls(transport):
            return False
        self._queue.put(transport.close)
        return True

    def end(self, stream: Callable[[], None]) -> None:
        """Call the function that ends a stream: now, or in a later loop turn if many end in this one."""
        self._queue.run(stream)


def close_transport(transport: asyncio.Transport) -> None:
    """Close a socket after the bytes written to it.

    The caller must drop a client that reads nothing of them, as `close_within` does.
    """
    if transport.is_closing():
        return
    transport.close()
    if is_tls(transport):
        _check_later(transport, None)


def close_within(transport: asyncio.Transport, seconds: float) -> None:
    """Close a socket after the bytes written to it, and drop a client that has not read them in this time."""
    close_transport(transport)
    if transport.get_write_buffer_size() or is_tls(transport):
        asyncio.get_running_loop().call_later(seconds, transport.abort)


def _check_later(transport: asyncio.Transport, before: int | None) -> None:
    asyncio.get_running_loop().call_later(CHECK_S, _drop_if_acknowledged, transport, before)


def _drop_if_acknowledged(transport: asyncio.Transport, before: int | None) -> None:
    """Drop a socket if all bytes are acknowledged, at this check and at the last one.

    Args:
        transport: of the socket.
        before: bytes acknowledged at the last check if all were; None if some were not. TLS may still have bytes to
            write when the kernel has none.
    """
    now = acknowledged(transport)
    if now is None:
        return
    if ack_progress(transport) is not None:
        _check_later(transport, None)
    elif now == before:
        transport.abort()
    else:
        _check_later(transport, now)
