"""The ports that workers share: bound by the parent, which does not listen on them."""

import socket


def reserve(host: str, port: int) -> list[socket.socket]:
    """Bind the addresses of a host without listening on them.

    Raises:
        OSError: the host has no address, or the port is in use. With SO_REUSEPORT alone that would go unnoticed, and
            two services of one user would share their clients.
    """
    probes = _bound(host, port, is_shared=False)
    port = probes[0].getsockname()[1]
    for probe in probes:
        probe.close()
    reserved = _bound(host, port, is_shared=True)
    for each in reserved:
        # Without this option the probe of another service fails, even before a worker listens.
        each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    return reserved


def _bound(host: str, port: int, is_shared: bool) -> list[socket.socket]:
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    bound: list[socket.socket] = []
    for family, address in dict.fromkeys((family, address) for family, *_, address in found):
        # With port 0 the first socket gets a free port, and the others the same one.
        bound.append(bind(family, (address[0], port, *address[2:]), is_shared))
        port = bound[0].getsockname()[1]
    return bound


def bind(family: int, address: tuple[str | int, ...], is_shared: bool) -> socket.socket:
    """Bind a socket, whose address others of this user may bind as well if it is shared."""
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_shared:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound
