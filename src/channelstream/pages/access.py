"""Who may see the admin pages: a signed-in browser, a script with the admin's password, a signed request."""

import hmac
from base64 import b64decode
from collections.abc import Awaitable, Callable
from hashlib import sha256

from itsdangerous import BadSignature, URLSafeTimedSerializer
from starlette.requests import Request
from starlette.responses import Response

from channelstream.errors import TooManyRequests, Unauthenticated
from channelstream.pages.html import root
from channelstream.pages.refusals import error_response
from channelstream.pages.throttle import Throttle

COOKIE = "auth_tkt"
"""The second generation's name for it."""
COOKIE_AGE_S = 30 * 24 * 3600

Endpoint = Callable[[Request], Awaitable[Response]]


class Gate:
    """Guards endpoints and issues the cookie that opens them.

    Args:
        user: name asked for by the sign-in form.
        password: its password; empty means that nobody can sign in with a password.
        cookie_secret: key of the cookie's signature.
        is_signed: whether a request carries a valid API signature from an allowed address.
        throttle: slows down guessing, for the form and for HTTP Basic alike.
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
        # A ticket names the password it was got with, so a new password signs everybody out.
        self._ticket = sha256(f"{user}\0{password}".encode()).hexdigest()[:16]
        self._is_signed = is_signed
        self._throttle = throttle

    def guarded(self, endpoint: Endpoint, otherwise: Callable[[Request], Response]) -> Endpoint:
        """Return an endpoint that answers `otherwise` to who shows no credentials, 401 to wrong ones."""

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
        """Return an endpoint of data: a browser without credentials is answered `otherwise`, a program 401."""

        def refuse(request: Request) -> Response:
            return otherwise(request) if _is_browser(request) else _basic_refused()

        return self.guarded(endpoint, refuse)

    async def sign_in(self, request: Request, user: str, password: str) -> bool:
        """Say whether these open the door; a wrong answer comes late.

        Raises:
            TooManyRequests: too many attempts are waiting.
        """

        def check() -> bool:
            # Both are compared, always: the time taken tells nothing about either.
            return _equal(user, self._user) & self._is_password(password)

        return await self._throttle.attempt(_address(request), check)

    def has_ticket(self, request: Request) -> bool:
        """Whether the request carries a cookie we gave, at most `COOKIE_AGE_S` old."""
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


def _equal(one: str, other: str) -> bool:
    """Compare in a time that depends on neither."""
    return hmac.compare_digest(sha256(one.encode()).digest(), sha256(other.encode()).digest())


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


def _basic_password(request: Request) -> str | None:
    """Return the password of HTTP Basic (RFC 7617), None without one; any user name will do."""
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return b64decode(encoded, validate=True).decode().partition(":")[2]
    except ValueError:
        # Not ASCII, no base64, or no UTF-8.
        return ""


def _is_browser(request: Request) -> bool:
    """Whether a page asks, or somebody at the address bar: a 401 would make the browser ask for a password itself."""
    return "sec-fetch-mode" in request.headers or "text/html" in request.headers.get("accept", "")


def _basic_refused() -> Response:
    error = Unauthenticated("Send the password of the option admin_secret; any user name will do.")
    challenge = 'Basic realm="channelstream admin", charset="UTF-8"'
    return error_response(error, {"WWW-Authenticate": challenge})
