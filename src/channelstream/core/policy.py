"""Decides by HTTP alone: the address and scheme of the caller, and which pages may read the answer."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from channelstream.core.addresses import LOCAL, LOOPBACK, UNKNOWN, Networks, read_address
from channelstream.core.forwarded import LIST_BYTES, SCHEMES, Hop, forwarded, x_forwarded_for
from channelstream.core.headers import Header, header, items, joined
from channelstream.core.http_head import RequestHead
from channelstream.errors import Forbidden, NotAcceptable

FORWARDING = frozenset({b"forwarded", b"x-forwarded-for", b"x-real-ip"})
"""Headers in which proxies name their callers: the peer that sends one is not the caller."""
_PREFIX = re.compile(r"(/[\w.~-]+)+", re.ASCII)

CORS = (
    (b"access-control-allow-methods", b"GET, POST, OPTIONS, PUT, DELETE, PATCH"),
    (
        b"access-control-allow-headers",
        b"Content-Type, Depth, User-Agent, X-File-Size, X-Requested-With, If-Modified-Since, X-File-Name, Cache-Control, "
        b"Pragma, Origin, Connection, Referer, Cookie, Last-Event-ID, Authorization",
    ),
    (b"access-control-max-age", b"86400"),
    (b"xdomainrequestallowed", b"1"),
)
"""CORS headers of the second generation, besides the allowed origin; and those that streams and calls of clients need."""
_ANY_ORIGIN = ((b"access-control-allow-origin", b"*"), *CORS)


class Policy:
    """The options `trusted_proxies`, `enforce_https`, `http_scheme` and `allow_cors`, applied to a request.

    Attributes:
        has_proxies: there are proxies whose headers are believed.
        enforces_https: plain HTTP is refused.
        cors_of_all: what `cors` returns for every request; empty if that depends on the request.
    """

    def __init__(
        self,
        trusted_proxies: tuple[str, ...] = (),
        enforce_https: bool = False,
        origins: tuple[str, ...] = (),
        prefix: str = "",
        on_untrusted: Callable[[str], None] = lambda peer: None,
    ) -> None:
        """Create a policy.

        Args:
            trusted_proxies: addresses and networks whose headers are believed.
            enforce_https: refuse plain HTTP.
            origins: pages that may read answers and open streams, in lower case; empty means all.
            prefix: begins all paths of an application; it is gone from the paths of the requests here.
            on_untrusted: called with the address of a proxy on this machine whose headers are not believed.
        """
        self.has_proxies = bool(trusted_proxies)
        self._trusted = Networks(trusted_proxies)
        self.enforces_https = enforce_https
        self._prefix = prefix
        self._on_untrusted = on_untrusted
        self._origins = frozenset(origin.encode() for origin in origins)
        self.cors_of_all = () if origins else _ANY_ORIGIN

    def is_proxied(self, head: RequestHead) -> bool:
        """Whether the peer is a proxy whose headers are believed."""
        return self.has_proxies and self._trusted.has(_peer(head))

    def client(self, head: RequestHead) -> str:
        """Return the caller's address: that of the peer, or the last one in the headers that is not a trusted proxy.

        `UNKNOWN` stands for an address that a proxy hides or that cannot be read, and for two headers that disagree:
        a proxy that sets one of them passes the other on as the client wrote it.
        """
        peer = _peer(head)
        if not self.has_proxies or not self._trusted.has(peer):
            return peer
        lists = (x_forwarded_for(head.headers), forwarded(head.headers))
        callers = {hops[self._caller_index(hops)].address for hops in lists if hops}
        return (callers or {peer}).pop() if len(callers) < 2 else UNKNOWN

    def is_local(self, head: RequestHead) -> bool:
        """Whether the caller is on this machine: by its address, and no proxy that is not trusted has passed the request on.

        The address is not enough for what a stranger must not have: that of such a proxy is local, too. Calls with a secret
        need only the address, as in version 0.7, which ignored what proxies say.
        """
        if not LOOPBACK.has(self.client(head)):
            return False
        if self.is_proxied(head) or all(name not in FORWARDING for name, _ in head.headers):
            return True
        self._on_untrusted(_peer(head))
        return False

    def scheme(self, head: RequestHead) -> str:
        """Return `http` or `https`, as the browser sees it; `https` only if all headers of a trusted proxy agree."""
        schemes = set(self._schemes(head.headers)) if self.is_proxied(head) else set()
        if not schemes:
            return SCHEMES.get(head.scheme, "http")
        return "https" if schemes == {"https"} else "http"

    def host(self, head: RequestHead) -> str:
        """Return the Host of the browser's request, from the Forwarded of a trusted proxy; empty if there is none.

        It does not count beside X-Forwarded-For: a proxy that sets that may pass on the client's own Forwarded.
        """
        headers = head.headers
        hops = forwarded(headers) if self.is_proxied(head) and not x_forwarded_for(headers) else ()
        return hops[self._caller_index(hops)].host if hops else ""

    def _caller_index(self, hops: Sequence[Hop]) -> int:
        """Return the index of the hop to the first trusted proxy; the client may have written those before it."""
        index = len(hops) - 1
        while index > 0 and self._trusted.has(hops[index].address):
            index -= 1
        return index

    def _schemes(self, headers: Sequence[Header]) -> Iterator[str]:
        """Yield the scheme by which the caller reached the first trusted proxy, from each header that names it."""
        addresses = x_forwarded_for(headers)
        for name in (b"x-forwarded-proto", b"x-url-scheme", b"x-scheme"):
            values = items(joined(headers, name)[-LIST_BYTES:])
            if values:
                # A list as long as that of the addresses has a value for each hop.
                index = self._caller_index(addresses) if len(values) == len(addresses) else -1
                yield from _known(values[index])
        hops = forwarded(headers)
        if hops:
            yield from _known(hops[self._caller_index(hops)].scheme)

    def root(self, head: RequestHead) -> str:
        """Return what the browser has before the path: the prefix of a trusted proxy, and that of the application."""
        return self._proxy_root(head) + self._prefix

    def _proxy_root(self, head: RequestHead) -> str:
        """Return the path prefix of a trusted proxy (X-Script-Name); empty if there is none."""
        if not self.is_proxied(head):
            return ""
        prefix = (header(head.headers, b"x-script-name") or b"").decode("latin-1").rstrip("/")
        return prefix if _PREFIX.fullmatch(prefix) else ""

    def path(self, head: RequestHead) -> str:
        """Return the request's path without the prefix of a trusted proxy, which the proxy may have left in it."""
        path, root = head.path, self._proxy_root(head)
        return path.removeprefix(root) if root and path.startswith(root + "/") else path

    def target(self, head: RequestHead) -> bytes:
        """Return path and query as they were received, without the prefixes of a trusted proxy and of the application."""
        path = head.raw_path
        for prefix in (self._proxy_root(head), self._prefix):
            if prefix and path.startswith(f"{prefix}/".encode()):
                path = path.removeprefix(prefix.encode())
        return path + b"?" + head.query if head.query else path

    def check_transport(self, head: RequestHead) -> None:
        """Refuse plain HTTP where `enforce_https` is on.

        Raises:
            NotAcceptable: the request came over plain HTTP.
        """
        if self.enforces_https and self.scheme(head) != "https":
            raise NotAcceptable("This server answers only over https.")

    def check_origin(self, headers: Iterable[Header]) -> None:
        """Refuse streams to pages of other sites; a request without Origin is not from a page.

        Raises:
            Forbidden: the origin is not allowed.
        """
        if not self._origins:
            return
        origin = header(headers, b"origin")
        if origin is not None and origin.lower() not in self._origins:
            raise Forbidden("This origin may not open streams; see the option allow_cors.")

    def cors(self, headers: Iterable[Header]) -> tuple[Header, ...]:
        """Return the headers that let a page read the answer."""
        if self.cors_of_all:
            return self.cors_of_all
        origin = header(headers, b"origin")
        vary = (b"vary", b"origin")
        if origin is None or origin.lower() not in self._origins:
            return (vary,)
        return ((b"access-control-allow-origin", origin), vary, *CORS)


def _known(scheme: str) -> list[str]:
    """Return `http` or `https` for a known scheme, else nothing."""
    return [SCHEMES[scheme.lower()]] if scheme.lower() in SCHEMES else []


def _peer(head: RequestHead) -> str:
    address = head.client[0] if head.client else LOCAL
    # An IPv4 caller of a dual-stack socket shows as ::ffff:a.b.c.d.
    return str(read_address(address)) if address.startswith("::ffff:") else address
