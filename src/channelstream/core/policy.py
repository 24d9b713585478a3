"""What HTTP itself decides: who is calling, over what, and which pages may read the answer."""

import re
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from channelstream.errors import Forbidden, NotAcceptable

EVERYBODY = "0.0.0.0"  # noqa: S104 - the word of 0.7.1 for "any address", nothing is bound to it
LOCAL = "127.0.0.1"
"""The address of a peer that has none: the other end of a unix socket."""

_PREFIX = re.compile(r"(/[\w.~-]+)+", re.ASCII)

Header = tuple[bytes, bytes]
Address = IPv4Address | IPv6Address

CORS = (
    (b"access-control-allow-methods", b"GET, POST, OPTIONS, PUT, DELETE, PATCH"),
    (
        b"access-control-allow-headers",
        b"Content-Type, Depth, User-Agent, X-File-Size, X-Requested-With, If-Modified-Since, X-File-Name, Cache-Control, "
        b"Pragma, Origin, Connection, Referer, Cookie",
    ),
    (b"access-control-max-age", b"86400"),
    (b"xdomainrequestallowed", b"1"),
)
"""The second generation's answer to browsers, besides the allowed origin."""


class Networks:
    """A set of addresses and networks."""

    def __init__(self, entries: Collection[str]) -> None:
        self._networks: tuple[IPv4Network | IPv6Network, ...] = tuple(
            ip_network(entry, strict=False) for entry in entries if entry != EVERYBODY
        )
        self._everybody = EVERYBODY in entries
        self.has = lru_cache(maxsize=1024)(self._has)

    def _has(self, address: str) -> bool:
        if self._everybody:
            return True
        try:
            parsed = _plain(ip_address(address))
        except ValueError:
            return False
        return any(parsed in network for network in self._networks)


class Policy:
    """The options `trusted_proxies`, `enforce_https`, `http_scheme` and `allow_cors`, applied to a request."""

    def __init__(
        self,
        trusted_proxies: tuple[str, ...] = (),
        enforce_https: bool = False,
        origins: tuple[str, ...] = (),
    ) -> None:
        """Create a policy.

        Args:
            origins: pages that may read answers and open streams; empty means all.
        """
        self._trusted = Networks(trusted_proxies)
        self._enforce_https = enforce_https
        self._origins = frozenset(origin.encode() for origin in origins)

    def is_proxied(self, scope: Mapping[str, Any]) -> bool:
        """Say whether the peer is a proxy whose headers are believed."""
        return self._trusted.has(_peer(scope))

    def client(self, scope: Mapping[str, Any]) -> str:
        """Return the caller's address: the peer's, or the last one a trusted proxy did not add itself."""
        address = _peer(scope)
        if not self._trusted.has(address):
            return address
        # A proxy may add a line of its own instead of lengthening the one the caller sent: all lines are one list.
        forwarded = b",".join(value for name, value in scope["headers"] if name == b"x-forwarded-for")
        for hop in reversed(
            [part.strip().decode("latin-1") for part in forwarded.split(b",") if part.strip()]
        ):
            address = hop
            if not self._trusted.has(hop):
                break
        return address

    def scheme(self, scope: Mapping[str, Any]) -> str:
        """Return `http` or `https`, as the browser sees it."""
        if self.is_proxied(scope):
            for name in (b"x-forwarded-proto", b"x-url-scheme", b"x-scheme"):
                value = header(scope["headers"], name)
                if value in (b"http", b"https"):
                    return value.decode()
        return "https" if scope["scheme"] in ("https", "wss") else "http"

    def root(self, scope: Mapping[str, Any]) -> str:
        """Return the path a trusted proxy serves us under (X-Script-Name), empty for none."""
        if not self.is_proxied(scope):
            return ""
        prefix = (header(scope["headers"], b"x-script-name") or b"").decode("latin-1").rstrip("/")
        return prefix if _PREFIX.fullmatch(prefix) else ""

    def path(self, scope: Mapping[str, Any]) -> str:
        """Return the request's path without the prefix of `root`, which the proxy may have left in place."""
        path: str = scope["path"]
        root = self.root(scope)
        return path.removeprefix(root) if root and path.startswith(root + "/") else path

    def check_transport(self, scope: Mapping[str, Any]) -> None:
        """Refuse plain HTTP where `enforce_https` is on.

        Raises:
            NotAcceptable: the request came over plain HTTP.
        """
        if self._enforce_https and self.scheme(scope) != "https":
            raise NotAcceptable("This server answers only over https.")

    def check_origin(self, headers: Iterable[Header]) -> None:
        """Refuse streams to pages of sites that are not allowed; without an Origin there is no page.

        Raises:
            Forbidden: the origin is not allowed.
        """
        origin = header(headers, b"origin")
        if self._origins and origin is not None and origin not in self._origins:
            raise Forbidden("This origin may not open streams; see the option allow_cors.")

    def cors(self, headers: Iterable[Header]) -> list[Header]:
        """Return the headers that let a page read the answer."""
        if not self._origins:
            return [(b"access-control-allow-origin", b"*"), *CORS]
        origin = header(headers, b"origin")
        vary = (b"vary", b"origin")
        if origin is None or origin not in self._origins:
            return [vary]
        return [(b"access-control-allow-origin", origin), vary, *CORS]


def header(headers: Iterable[Header], name: bytes) -> bytes | None:
    """Return the first header of this lower-case name."""
    for key, value in headers:
        if key == name:
            return value
    return None


def _peer(scope: Mapping[str, Any]) -> str:
    client = scope.get("client")
    return client[0] if client else LOCAL


def _plain(address: Address) -> Address:
    """An IPv4 caller of a dual-stack socket shows as ::ffff:a.b.c.d."""
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address
