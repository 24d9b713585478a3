"""Whether a browser sent a request from one of our own pages: the guard against cross-site forgery.

A check of what the browser itself says about the sender needs no token in the form, so scripts of the older
generations that post the sign-in form directly go on working; they send neither header.
"""

from urllib.parse import urlsplit

from starlette.requests import Request


def is_same_origin(request: Request) -> bool:
    """True unless a browser says that another site made this request.

    `Sec-Fetch-Site` (W3C Fetch Metadata, sent over HTTPS and to loopback) decides; otherwise `Origin`
    (RFC 6454) must name the host asked for. Hosts only: a proxy that ends TLS changes the scheme.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = request.headers.get("origin")
    return origin is None or _host(origin) == request.url.netloc


def _host(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:  # Such as "http://[", which no browser sends.
        return None
