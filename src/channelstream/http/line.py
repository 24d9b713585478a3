"""What the kernel knows about a client: which bytes it has acknowledged, and whether it has sent what is not read yet.

That the kernel has accepted bytes proves nothing, since it buffers megabytes for a client that is gone. Only the
acknowledgements of the client's TCP show that it still reads.
"""

import asyncio
import fcntl
import select
import socket
import struct
import termios

from channelstream.core.addresses import Peer

_TCP_INFO = getattr(socket, "TCP_INFO", None)
_INFO_BYTES = 128
_BYTES_ACKED_AT = 120
"""Offset of `tcpi_bytes_acked` in `struct tcp_info` (Linux 4.1, include/uapi/linux/tcp.h)."""
_ENDED = select.POLLHUP | select.POLLERR | getattr(select, "POLLRDHUP", 0)


class Line:
    """The socket of a request, for a handler that has no transport."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def ack_progress(self) -> int | None:
        return ack_progress(self._transport)

    def has_ended(self) -> bool:
        """Whether the client has closed its side; asks the kernel, since the loop may not have read that yet."""
        return self._transport.is_closing() or _has_event(self._transport, _ENDED)


def peer_of(transport: asyncio.Transport) -> tuple[Peer | None, str]:
    """Return address and port of the client, None for a unix socket, and the scheme of the socket."""
    name = transport.get_extra_info("peername")
    scheme = "https" if is_tls(transport) else "http"
    return ((str(name[0]), int(name[1])) if isinstance(name, tuple) else None), scheme


def is_tls(transport: asyncio.Transport) -> bool:
    return transport.get_extra_info("sslcontext") is not None


def has_unread(transport: asyncio.Transport) -> bool:
    """Whether the client still reads an answer, or the kernel holds unread bytes of it, or its end of input.

    The loop may not have read yet what the kernel holds: a request that crosses with the close of the connection would
    get a reset as answer.
    """
    return ack_progress(transport) is not None or _has_event(transport, select.POLLIN)


def ack_progress(transport: asyncio.Transport) -> int | None:
    """Return a number that grows as the client acknowledges bytes; None once all written bytes are acknowledged.

    It is the number of bytes that TCP has had acknowledged. If the socket does not report that, it is the negated
    number of waiting bytes, which grows as long as nothing more is written.
    """
    buffered = transport.get_write_buffer_size()
    try:
        line = transport.get_extra_info("socket")
        waiting = buffered + _queued_bytes(line.fileno())
        return _acknowledged_bytes(line, waiting) if waiting else None
    except (AttributeError, OSError, ValueError):  # No socket, a closed one, or not Linux.
        return -buffered or None


def acknowledged(transport: asyncio.Transport) -> int | None:
    """Return the bytes that TCP has had acknowledged, 0 if the socket does not report it; None if it is closed."""
    line = transport.get_extra_info("socket")
    if line is None or line.fileno() < 0:
        return None
    return _acknowledged_bytes(line, 0)


def _has_event(transport: asyncio.Transport, events: int) -> bool:
    """Return whether one of these events has occurred on a socket (poll(2))."""
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), events)
    return bool(poll.poll(0))


def _queued_bytes(descriptor: int) -> int:
    """Return the bytes in the kernel that the client has not acknowledged (tcp(7), unix(7): SIOCOUTQ)."""
    return int.from_bytes(fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4)), "little")


def _acknowledged_bytes(line: socket.socket, waiting: int) -> int:
    if line.family not in (socket.AF_INET, socket.AF_INET6) or _TCP_INFO is None:
        return -waiting
    info = line.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _INFO_BYTES)
    acknowledged: int = struct.unpack_from("=Q", info, _BYTES_ACKED_AT)[0]
    return acknowledged
