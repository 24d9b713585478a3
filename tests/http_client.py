"""The HTTP client of all tests.

`httpx.request` loads the machine's certificates for each call, which takes 40 ms of CPU: more than most tests need.
"""

import sys
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx
from tests.waiting import PATIENCE_S

# httpcore looks for it several times a request; where it is not installed, the search costs more than the request.
sys.modules.setdefault("sniffio", None)  # type: ignore[arg-type]
NO_COOKIES = DefaultCookiePolicy(allowed_domains=[])

http = httpx.Client(
    cookies=CookieJar(NO_COOKIES),
    verify=False,
    trust_env=False,
    timeout=PATIENCE_S,
    limits=httpx.Limits(max_keepalive_connections=0),
)
"""Opens a connection for each request and keeps no cookies, as `httpx.request` does; safe to use from several threads."""


def async_client(**options: object) -> httpx.AsyncClient:
    """Return a client to be used as a context, cheap to make; options are those of `httpx.AsyncClient`."""
    options = {"timeout": PATIENCE_S} | options
    return httpx.AsyncClient(verify=False, trust_env=False, **options)  # type: ignore[arg-type]
