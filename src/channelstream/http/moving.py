"""Sockets that move to another process: which can, and how their descriptors are left here."""

import asyncio

from channelstream.http.line import is_tls


def is_movable(transport: asyncio.Transport) -> bool:
    """Return whether a socket can move: without TLS, and with all that was written in the kernel."""
    return not (is_tls(transport) or transport.is_closing() or transport.get_write_buffer_size())


def descriptor_of(transport: asyncio.Transport) -> int:
    return int(transport.get_extra_info("socket").fileno())


def drop_descriptor(transport: asyncio.Transport) -> None:
    """Close a descriptor of a socket that another process has too: the connection stays open."""
    transport.set_protocol(asyncio.Protocol())
    transport.abort()
