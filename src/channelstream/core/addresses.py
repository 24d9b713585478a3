"""Addresses and networks in one spelling: an IPv4 address is the same from an IPv4 and from a dual-stack socket."""

from collections.abc import Collection
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

EVERYBODY = "0.0.0.0"  # noqa: S104 - in 0.7.1 it means "any address"; nothing is bound to it
LOCAL = "127.0.0.1"
"""Stands for the peer of a unix socket, which has no address."""
ADDRESS_CHARACTERS = 64
"""Longest address that is kept; one that a trusted proxy reports may be any text."""
UNKNOWN = "unknown"
"""Stands for a caller whose proxy gives no address, or one that cannot be read (RFC 7239, 6.2)."""

_MAPPED_BITS = 96
"""Length of the prefix `::ffff:0:0/96`, which an IPv4 address follows (RFC 4291, 2.5.5.2)."""

Peer = tuple[str, int]
"""Address and port of the other end of a socket."""
Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class Networks:
    """A set of addresses and networks."""

    def __init__(self, entries: Collection[str]) -> None:
        self._networks = tuple(read_network(entry) for entry in entries if entry != EVERYBODY)
        self._everybody = EVERYBODY in entries
        self.has = lru_cache(maxsize=1024)(self._has)

    def _has(self, address: str) -> bool:
        if self._everybody:
            return True
        try:
            parsed = read_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._networks)


def read_address(text: str) -> Address:
    """Return the address of a text; an IPv4-mapped one as the IPv4 address.

    Raises:
        ValueError: the text is not an address.
    """
    address = ip_address(text)
    return getattr(address, "ipv4_mapped", None) or address


def read_network(text: str) -> Network:
    """Return the network, or the single address, of a text; bits after the prefix are ignored.

    Raises:
        ValueError: the text is not a network.
    """
    network = ip_network(text, strict=False)
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is None or network.prefixlen < _MAPPED_BITS:
        return network
    return IPv4Network((mapped, network.prefixlen - _MAPPED_BITS))


def source_of(address: str) -> str:
    """Return the key of a caller for limits: an IPv4 address, or an IPv6 /64, which one host has whole (RFC 6177)."""
    try:
        parsed = read_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv4Address):
        return str(parsed)
    return str(IPv6Network((int(parsed), 64), strict=False))


LOOPBACK = Networks(("127.0.0.0/8", "::1"))
"""The addresses of this machine itself."""
