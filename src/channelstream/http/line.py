"""How far a client's line has taken what was written to it: the sign of life of one that is slow.

What the kernel has taken over says little: it buffers megabytes for a client that is gone. What the client's side has
acknowledged tells a line that moves from one that is dead.
"""

import asyncio
import fcntl
import socket
import struct
import termios
from collections.abc import Callable

LINE = "channelstream.line"
"""Key in `scope["extensions"]`: tells how far the line of this request has taken what was written to it."""
Taken = Callable[[], int | None]
"""`taken` of one line."""

_TCP_INFO = getattr(socket, "TCP_INFO", None)
_INFO_BYTES = 128
_BYTES_ACKED_AT = 120
"""Where `struct tcp_info` has `tcpi_bytes_acked` (Linux 4.1, include/uapi/linux/tcp.h)."""


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


def _queued_bytes(descriptor: int) -> int:
    """Return how many bytes the kernel holds that the other side has not acknowledged (tcp(7), unix(7): SIOCOUTQ)."""
    return int.from_bytes(fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4)), "little")


def _acknowledged_bytes(line: socket.socket, waiting: int) -> int:
    if line.family not in (socket.AF_INET, socket.AF_INET6) or _TCP_INFO is None:
        return -waiting
    info = line.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _INFO_BYTES)
    acknowledged: int = struct.unpack_from("=Q", info, _BYTES_ACKED_AT)[0]
    return acknowledged
