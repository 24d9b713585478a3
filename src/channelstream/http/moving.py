"""Sockets that move to another process: which can, and how their descriptors are left here."""

import asyncio
import os
import socket
from contextlib import suppress

from channelstream.http.line import is_tls


def is_movable(transport: asyncio.Transport) -> bool:
    """Return whether a socket can move: without TLS, and with all that was written in the kernel."""
    return not (is_tls(transport) or transport.is_closing() or transport.get_write_buffer_size())


def descriptor_of(transport: asyncio.Transport) -> int:
    return int(transport.get_extra_info("socket").fileno())


def end_for_all(transport: asyncio.Transport) -> None:
    """End a connection of which another process has a descriptor, too: to close the one here would leave it open."""
    with suppress(OSError), socket.socket(fileno=os.dup(descriptor_of(transport))) as other:
        other.shutdown(socket.SHUT_RDWR)


def drop_descriptor(transport: asyncio.Transport) -> None:
    """Close a descriptor of a socket that another process has too: the connection stays open."""
    transport.set_protocol(asyncio.Protocol())
    transport.abort()
