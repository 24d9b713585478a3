"""Web origins, in the form of the header Origin (RFC 6454, sections 4 and 7)."""

import re
from ipaddress import IPv6Address

import idna

NULL = "null"
"""Origin of pages that have none: files, sandboxed frames."""

_ORIGIN = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>\[[0-9a-f:.]+\]|[^\s/:?#@*\[\]\\]*)(:(?P<port>\d{1,5}))?/?"
)
_DEFAULT_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?")


def normalize_origin(text: str) -> str:
    """Return an origin in the form that browsers send: lower-case, its host in ASCII, without the default port.

    Raises:
        ValueError: the text is not an origin.
    """
    found = _ORIGIN.fullmatch(text.lower())
    if text.lower() == NULL:
        return NULL
    if found is None:
        raise ValueError(text)
    scheme = found["scheme"]
    return f"{scheme}://{_host(scheme, found['host'])}{_port(scheme, found['port'])}"


def _host(scheme: str, host: str) -> str:
    if host.startswith("["):
        return f"[{IPv6Address(host[1:-1])}]"
    if not host.isascii():
        host = idna.encode(host, uts46=True).decode()
    # Only the hosts of the web are domains (WHATWG URL, "special scheme"); one of an app may be any text, or empty.
    if scheme in _DEFAULT_PORTS and not _HOST.fullmatch(host):
        raise ValueError(host)
    return host


def _port(scheme: str, port: str | None) -> str:
    if port is None or int(port) == _DEFAULT_PORTS.get(scheme):
        return ""
    if not 0 < int(port) < 65_536:
        raise ValueError(port)
    return f":{int(port)}"
