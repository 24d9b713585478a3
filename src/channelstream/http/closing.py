"""Closing a socket: plain TCP is done with it at once, TLS would wait for the client's good-bye."""

import asyncio
from collections.abc import Callable

from channelstream.http.line import ack_progress, acknowledged
from channelstream.slices import TurnQueue

CHECK_S = 0.1
"""How often a socket of TLS that closes is looked at."""
AT_ONCE = 50
"""Sockets closed in one turn of the loop where very many clients have gone: 20 to 40 us each, half of it the kernel's."""


class ClosingQueue:
    """Sockets whose clients have said that they send nothing more, and ends of streams: a few in each turn of the loop."""

    def __init__(self) -> None:
        self._queue = TurnQueue(AT_ONCE)

    def close(self, transport: asyncio.Transport) -> bool:
        """Close a socket soon, behind what was written to it.

        Returns:
            What `eof_received` is to return: whether the loop leaves the closing to us; of TLS it does not.
        """
        if is_tls(transport):
            return False
        self._queue.put(transport.close)
        return True

    def end(self, stream: Callable[[], None]) -> None:
        """Do what ends a stream: at once, unless very many end in this turn."""
        self._queue.run(stream)


def close_transport(transport: asyncio.Transport) -> None:
    """Close a socket behind what was written to it.

    A client of TLS need not answer the good-bye (RFC 8446, 6.1), and one with idle connections in a pool does not: its
    socket is dropped once the line has taken everything. Who drops a client that takes nothing is the caller.
    """
    if transport.is_closing():
        return
    transport.close()
    if is_tls(transport):
        _check_later(transport, None)


def is_tls(transport: asyncio.Transport) -> bool:
    return transport.get_extra_info("sslcontext") is not None


def _check_later(transport: asyncio.Transport, before: int | None) -> None:
    asyncio.get_running_loop().call_later(CHECK_S, _drop_if_acknowledged, transport, before)


def _drop_if_acknowledged(transport: asyncio.Transport, before: int | None) -> None:
    """Drop a socket where nothing waits and nothing has moved since the last look.

    Args:
        before: bytes acknowledged by then, if nothing waited; the kernel may be empty for a moment with more to come.
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
