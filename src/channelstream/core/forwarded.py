"""The headers by which proxies name the caller: `X-Forwarded-For`, and `Forwarded` (RFC 7239).

Both are lists that grow to the right: each proxy appends its caller. An entry that cannot be read is `UNKNOWN`, never
an address.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address

from channelstream.core.addresses import UNKNOWN, read_address
from channelstream.core.headers import Header, items, joined

LIST_BYTES = 4096
"""Longest list of either header that is read; the caller of a longer one is `UNKNOWN`."""
SCHEMES = {"http": "http", "ws": "http", "https": "https", "wss": "https"}
"""Names that proxies use for schemes; some use those of WebSockets."""

_PORT = r"(?::\d{1,5})?"
_LISTED = re.compile(
    rf"(?P<four>[\d.]+){_PORT}|\[(?P<six>[\da-f:.]+)\]{_PORT}|(?P<bare>[\da-f:.]+)", re.I | re.A
)
"""An address in X-Forwarded-For, which has no standard: with or without a port, and IPv6 with or without brackets."""
_NODE = re.compile(r"(?:(?P<four>[\d.]+)|\[(?P<six>[\da-f:.]+)\])(?::(?:\d{1,5}|_[\w.-]+))?", re.I | re.A)
"""A node with an address (RFC 7239, 6); the port may be obfuscated."""
_TCHARS = r"[!#$%&'*+.^_`|~\w-]+"
_PAIR = re.compile(rf'[ \t]*(?:({_TCHARS})=(?:({_TCHARS})|"((?:[^"\\]|\\.)*)")[ \t]*)?([;,]|\Z)', re.A | re.S)
"""A pair of Forwarded, or nothing, and its delimiter. Spaces around a semicolon are against the grammar, but common."""
_HOST = re.compile(r"(?:[\w.-]+|\[[\da-f:.]+\])(?::\d{1,5})?", re.I | re.A)


@dataclass(frozen=True, slots=True)
class Hop:
    """One call from a client or proxy to a proxy, as the latter recorded it.

    Attributes:
        address: of the caller, in its shortest spelling, or `UNKNOWN`.
        scheme: `http` or `https`; empty if not given.
        host: the Host of the request; empty if not given.
    """

    address: str
    scheme: str = ""
    host: str = ""


def x_forwarded_for(headers: Iterable[Header]) -> Sequence[Hop]:
    """Return the hops of X-Forwarded-For, the caller of the last proxy at the end."""
    text = joined(headers, b"x-forwarded-for")
    if len(text) > LIST_BYTES:
        return [Hop(UNKNOWN)]
    return [Hop(_address(_LISTED, part)) for part in items(text)]


def forwarded(headers: Iterable[Header]) -> Sequence[Hop]:
    """Return the hops of Forwarded, the caller of the last proxy at the end.

    A list that breaks the grammar anywhere is one unknown hop: an open quote could hide what a proxy appends.
    """
    text = joined(headers, b"forwarded")
    elements = _elements(text) if len(text) <= LIST_BYTES else None
    return [Hop(UNKNOWN)] if elements is None else [_hop(element) for element in elements if element]


def _elements(text: str) -> list[dict[str, str]] | None:
    """Return the pairs of each element, names in lower case; None if the text breaks the grammar."""
    elements: list[dict[str, str]] = [{}]
    at = 0
    while at < len(text):
        pair = _PAIR.match(text, at)
        if pair is None:
            return None
        name, token, quoted, end = pair.groups()
        if name is not None:
            if name.lower() in elements[-1]:
                return None
            elements[-1][name.lower()] = token if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
        if end == ",":
            elements.append({})
        at = pair.end()
    return elements


def _hop(element: dict[str, str]) -> Hop:
    host = element.get("host", "")
    return Hop(
        _address(_NODE, element.get("for", "")),
        SCHEMES.get(element.get("proto", "").lower(), ""),
        host if _HOST.fullmatch(host) else "",
    )


def _address(form: re.Pattern[str], text: str) -> str:
    found = form.fullmatch(text)
    if found is None:
        return UNKNOWN
    parts = found.groupdict()
    try:
        if parts["six"]:
            return str(read_address(str(IPv6Address(parts["six"]))))
        return str(read_address(parts["four"] or parts["bare"]))
    except ValueError:
        return UNKNOWN
