"""Access control of the admin pages: a signed-in browser, a script with the admin password, or a signed request."""

import hmac
from base64 import b64decode
from collections.abc import Awaitable, Callable
from hashlib import sha256
from urllib.parse import urlencode

from itsdangerous import BadSignature, URLSafeTimedSerializer
from starlette.requests import Request
from starlette.responses import Response

from channelstream.errors import TooManyRequests, Unauthenticated
from channelstream.pages.html import redirect, root
from channelstream.pages.refusals import error_response
from channelstream.pages.throttle import Throttle

COOKIE = "auth_tkt"
"""The name that 0.7 gave the cookie."""
COOKIE_AGE_S = 30 * 24 * 3600
HOME = "/admin"
"""The page that a sign-in leads to if no other was asked for."""
NEXT = "next"
"""The parameter of the sign-in form with the page that was asked for, without the prefix of a proxy."""

Endpoint = Callable[[Request], Awaitable[Response]]


class Gate:
    """Guards endpoints and issues the cookie that opens them.

    Args:
        user: the user name for the sign-in form.
        password: the password; empty means that nobody can sign in with a password.
        cookie_secret: key of the cookie's signature.
        is_signed: whether a request carries a valid API signature from an allowed address.
        throttle: delays wrong attempts, for the form and for HTTP Basic.
    """

    def __init__(
        self,
        user: str,
        password: str,
        cookie_secret: str,
        is_signed: Callable[[Request], bool],
        throttle: Throttle,
    ) -> None:
        self._user = user
        self._password = password
        self._tickets = URLSafeTimedSerializer(cookie_secret, salt="channelstream.admin")
        # A ticket contains a hash of the password, so a new password signs everybody out.
        self._ticket = sha256(f"{user}\0{password}".encode()).hexdigest()[:16]
        self._is_signed = is_signed
        self._throttle = throttle

    def guarded(self, endpoint: Endpoint, otherwise: Callable[[Request], Response]) -> Endpoint:
        """Return an endpoint that answers `otherwise` to a request without credentials, and 401 to wrong credentials."""

        async def guarded(request: Request) -> Response:
            if self.has_ticket(request) or self._is_signed(request):
                return await endpoint(request)
            password = _basic_password(request)
            if password is None:
                return otherwise(request)
            try:
                known = await self._throttle.attempt(_address(request), lambda: self._is_password(password))
            except TooManyRequests as error:
                return error_response(error)
            return await endpoint(request) if known else _basic_refused()

        return guarded

    def guarded_data(self, endpoint: Endpoint, otherwise: Callable[[Request], Response]) -> Endpoint:
        """Return an endpoint for data: without credentials a browser gets the answer `otherwise`, a program 401."""

        def refuse(request: Request) -> Response:
            return otherwise(request) if _is_browser(request) else _basic_refused()

        return self.guarded(endpoint, refuse)

    async def sign_in(self, request: Request, user: str, password: str) -> bool:
        """Return whether user and password are right. A wrong attempt is answered with a delay.

        Raises:
            TooManyRequests: too many attempts are waiting.
        """

        def check() -> bool:
            # Both are always compared, so that the time taken reveals nothing about either.
            return _equal(user, self._user) & self._is_password(password)

        return await self._throttle.attempt(_address(request), check)

    def had_ticket(self, request: Request) -> bool:
        """Return whether the request carries a cookie that is not valid any more."""
        return COOKIE in request.cookies and not self.has_ticket(request)

    def has_ticket(self, request: Request) -> bool:
        """Return whether the request carries a valid cookie of this server, at most `COOKIE_AGE_S` old."""
        try:
            ticket = self._tickets.loads(request.cookies.get(COOKIE, ""), max_age=COOKIE_AGE_S)
        except BadSignature:
            return False
        return bool(ticket == self._ticket)

    def set_ticket(self, request: Request, response: Response) -> None:
        response.set_cookie(
            COOKIE,
            self._tickets.dumps(self._ticket),
            max_age=COOKIE_AGE_S,
            path=root(request) or "/",
            secure=request.url.scheme == "https",
            httponly=True,
            samesite="lax",
        )

    def clear_ticket(self, request: Request, response: Response) -> None:
        response.delete_cookie(COOKIE, path=root(request) or "/", httponly=True, samesite="lax")

    def _is_password(self, password: str) -> bool:
        return _equal(password, self._password) and bool(self._password)


def to_sign_in(request: Request) -> Response:
    """Send a browser without credentials to the sign-in form, which leads back to the page."""
    wanted = request.url.path.removeprefix(root(request))
    if request.url.query:
        wanted += f"?{request.url.query}"
    if request.method != "GET" or wanted == HOME:
        return redirect(request, "/admin/sign_in")
    return redirect(request, f"/admin/sign_in?{urlencode({NEXT: wanted})}")


def _equal(one: str, other: str) -> bool:
    """Compare two texts in a time that depends on neither."""
    return hmac.compare_digest(sha256(one.encode()).digest(), sha256(other.encode()).digest())


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


def _basic_password(request: Request) -> str | None:
    """Return the password of HTTP Basic (RFC 7617), or None if there is none. The user name is ignored."""
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return b64decode(encoded, validate=True).decode().partition(":")[2]
    except ValueError:
        # Not ASCII, no base64, or no UTF-8.
        return ""


def _is_browser(request: Request) -> bool:
    """Return whether a browser sent the request. To a browser a 401 would mean its own password dialog."""
    return "sec-fetch-mode" in request.headers or "text/html" in request.headers.get("accept", "")


def _basic_refused() -> Response:
    error = Unauthenticated("Send the password of the option admin_secret; the user name is ignored.")
    challenge = 'Basic realm="channelstream admin", charset="UTF-8"'
    return error_response(error, {"WWW-Authenticate": challenge})
