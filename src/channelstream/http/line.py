"""How far a client's line has taken what was written to it: the sign of life of one that is slow.

What the kernel has taken over says little: it buffers megabytes for a client that is gone. What the client's side has
acknowledged tells a line that moves from one that is dead.
"""

import asyncio
import fcntl
import select
import socket
import struct
import termios

LINE = "channelstream.line"
"""Key in `scope["extensions"]` of the `Line` a request came by."""

_TCP_INFO = getattr(socket, "TCP_INFO", None)
_INFO_BYTES = 128
_BYTES_ACKED_AT = 120
"""Where `struct tcp_info` has `tcpi_bytes_acked` (Linux 4.1, include/uapi/linux/tcp.h)."""


_ENDED = select.POLLHUP | select.POLLERR | getattr(select, "POLLRDHUP", 0)


class Line:
    """The line a request came by, for an application that sees no transport."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def taken(self) -> int | None:
        return taken(self._transport)

    def has_ended(self) -> bool:
        """Say whether the client has gone, also where the loop has not come to reading that yet."""
        if self._transport.is_closing():
            return True
        ended = select.poll()
        ended.register(self._transport.get_extra_info("socket").fileno(), _ENDED)
        return bool(ended.poll(0))


def taken(transport: asyncio.Transport) -> int | None:
    """Return a number that grows as the line takes bytes; None if it has taken all that was written.

    The number is what TCP has had acknowledged. Where the socket cannot tell that, it is the negated number of bytes that
    wait, which grows as long as nothing more is written.
    """
    buffered = transport.get_write_buffer_size()
    try:
        line = transport.get_extra_info("socket")
        waiting = buffered + _queued_bytes(line.fileno())
        return _acknowledged_bytes(line, waiting) if waiting else None
    except (AttributeError, OSError, ValueError):  # No socket, none any more, or no Linux.
        return -buffered or None


def acknowledged(transport: asyncio.Transport) -> int | None:
    """Return how many bytes TCP has had acknowledged, 0 where the socket cannot tell; None if it is closed."""
    line = transport.get_extra_info("socket")
    if line is None or line.fileno() < 0:
        return None
    return _acknowledged_bytes(line, 0)


def _queued_bytes(descriptor: int) -> int:
    """Return how many bytes the kernel holds that the other side has not acknowledged (tcp(7), unix(7): SIOCOUTQ)."""
    return int.from_bytes(fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4)), "little")


def _acknowledged_bytes(line: socket.socket, waiting: int) -> int:
    if line.family not in (socket.AF_INET, socket.AF_INET6) or _TCP_INFO is None:
        return -waiting
    info = line.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _INFO_BYTES)
    acknowledged: int = struct.unpack_from("=Q", info, _BYTES_ACKED_AT)[0]
    return acknowledged
