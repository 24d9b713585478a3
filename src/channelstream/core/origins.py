"""Web origins, in the form of the header Origin (RFC 6454, sections 4 and 7)."""

import re
from ipaddress import IPv4Address, IPv6Address

import idna

NULL = "null"
"""Origin of pages that have none: files, sandboxed frames."""

_ORIGIN = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>\[[0-9a-f:.]+\]|[^\s/:?#@*\[\]\\]*)(:(?P<port>\d{1,5}))?/?"
)
_DEFAULT_PORTS = {"http": 80, "https": 443}
_NEVER = ("ws", "wss")
"""Schemes of addresses that no page has."""
_HOST = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?")
_NUMBER = re.compile(r"(.*\.)?(\d+|0x[0-9a-f]*)\.?")
"""A host that browsers read as an IPv4 address (WHATWG URL, "ends in a number checker")."""


def normalize_origin(text: str) -> str:
    """Return an origin in the form that browsers send: lower-case, its host in ASCII, without the default port.

    Some send the host of an app in upper case, which says nothing: compare in lower case.

    Raises:
        ValueError: the text is not an origin.
    """
    found = _ORIGIN.fullmatch(text.lower())
    if text.lower() == NULL:
        return NULL
    if found is None or found["scheme"] in _NEVER:
        raise ValueError(text)
    scheme = found["scheme"]
    return f"{scheme}://{_host(scheme, found['host'])}{_port(scheme, found['port'])}"


def _host(scheme: str, host: str) -> str:
    if host.startswith("["):
        return f"[{IPv6Address(host[1:-1])}]"
    if not host.isascii():
        host = idna.encode(host, uts46=True).decode()
    # Only the hosts of the web are domains (WHATWG URL, "special scheme"); one of an app may be any text, or empty.
    if scheme in _DEFAULT_PORTS:
        if not _HOST.fullmatch(host):
            raise ValueError(host)
        if _NUMBER.fullmatch(host):
            return str(IPv4Address(host))
    return host


def _port(scheme: str, port: str | None) -> str:
    if port is None or int(port) == _DEFAULT_PORTS.get(scheme):
        return ""
    if not 0 < int(port) < 65_536:
        raise ValueError(port)
    return f":{int(port)}"
