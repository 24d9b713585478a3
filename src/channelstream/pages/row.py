"""A row of the table of guarded pages: a path, what answers it, and the right that it takes."""

from collections.abc import Awaitable, Callable
from enum import Enum
from typing import NamedTuple
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from channelstream.errors import Unauthenticated
from channelstream.pages.html import redirect, root
from channelstream.pages.refusals import error_response

HOME = "/admin"
"""The page that a sign-in leads to if no other was asked for."""
NEXT = "next"
"""The parameter of the sign-in form with the page that was asked for, without the prefix of a proxy."""

Endpoint = Callable[[Request], Awaitable[Response]]


class PageRight(Enum):
    """What a caller must be allowed to do."""

    LOOK = "look"
    CHANGE = "change"


def nobody(_: Request) -> bool:
    """Return False: every request needs credentials."""
    return False


def to_sign_in(request: Request) -> Response:
    """Send a browser without credentials to the sign-in form, which leads back to the page."""
    wanted = request.url.path.removeprefix(root(request))
    if request.url.query:
        wanted += f"?{request.url.query}"
    if request.method != "GET" or wanted == HOME:
        return redirect(request, "/admin/sign_in")
    return redirect(request, f"/admin/sign_in?{urlencode({NEXT: wanted})}")


def to_sign_in_or_401(request: Request) -> Response:
    """Send a browser to the sign-in form, and answer a program 401: it cannot fill in a form."""
    return to_sign_in(request) if _is_browser(request) else basic_refused()


def basic_refused() -> Response:
    error = Unauthenticated(
        "Send the password of the option admin_secret or admin_reader_secret; the user name is ignored."
    )
    challenge = 'Basic realm="channelstream admin", charset="UTF-8"'
    return error_response(error, {"WWW-Authenticate": challenge})


def _is_browser(request: Request) -> bool:
    """Return whether a browser sent the request. To a browser a 401 would mean its own password dialog."""
    return "sec-fetch-mode" in request.headers or "text/html" in request.headers.get("accept", "")


class Row(NamedTuple):
    """A guarded path.

    Attributes:
        right: what it takes; one that names none takes that to change.
        refuse: answers a request without credentials.
        is_open: whether a request needs no credentials to look.
        max_body_bytes: the longest body; None for a path that reads none.
    """

    path: str
    endpoint: Endpoint
    right: PageRight = PageRight.CHANGE
    methods: tuple[str, ...] = ("GET",)
    refuse: Callable[[Request], Response] = to_sign_in
    is_open: Callable[[Request], bool] = nobody
    max_body_bytes: int | None = None
