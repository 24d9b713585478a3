"""Protection against cross-site request forgery: did a page of this server send the request?

The check reads headers that the browser sets, so forms need no token. Scripts for older versions that post the
sign-in form directly still work: they send neither header.
"""

from urllib.parse import urlsplit

from starlette.requests import Request


def is_same_origin(request: Request) -> bool:
    """Return False if a browser reports that another site made this request.

    `Sec-Fetch-Site` (W3C Fetch Metadata, sent over HTTPS and to loopback) decides if it is there. Otherwise `Origin`
    (RFC 6454) must have the host of the request. Only hosts are compared: a proxy that ends TLS changes the scheme.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = request.headers.get("origin")
    return origin is None or _host(origin) == request.url.netloc


def _host(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:  # For example "http://[", which no browser sends.
        return None
