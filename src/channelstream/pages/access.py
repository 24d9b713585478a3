"""Access control of the admin pages: a signed-in browser, a script with the admin password, or a signed request."""

import hmac
from base64 import b64decode
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256

from itsdangerous import URLSafeTimedSerializer
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from channelstream.errors import ChannelstreamError, Forbidden
from channelstream.http.asgi import IS_LOCAL
from channelstream.pages.act import Act, Did, Record
from channelstream.pages.caller import Caller, admitted
from channelstream.pages.html import root
from channelstream.pages.origin import is_same_origin
from channelstream.pages.refusals import FOREIGN, error_response
from channelstream.pages.row import Endpoint, PageRight, Row, basic_refused
from channelstream.pages.signed import read_signed
from channelstream.pages.throttle import Throttle

COOKIE = "auth_tkt"
"""The name that 0.7 gave the cookie."""
COOKIE_AGE_S = 30 * 24 * 3600
ReadBody = Callable[[], Awaitable[bytes]]
SignedBy = Callable[[Request, ReadBody], Awaitable[str | None]]
"""Returns what signed a request, if the signature is valid and from an allowed address; else None."""
PUBLIC = (
    "This password is a public default value, which admits callers on this machine only: set one of your own."
)
READ_ONLY = "Your sign-in may look at everything here, and change nothing."


@dataclass(frozen=True)
class Account:
    """One who may sign in.

    Attributes:
        user: the user name for the sign-in form.
        may_change: whether the account may do more than look.
        is_public: whether everybody knows the password, a default one: it admits callers on this machine only.
    """

    user: str
    password: str = field(repr=False)
    may_change: bool
    is_public: bool = False

    @property
    def ticket(self) -> str:
        """What a cookie contains: a hash of the password, so a new password signs everybody out."""
        return sha256(f"{self.user}\0{self.password}".encode()).hexdigest()[:16]


class Gate:
    """Guards the rows of the pages, and issues the cookie that opens them.

    Args:
        accounts: who may sign in; one with an empty password may not.
        cookie_secret: key of the cookie's signature.
        signed_by: says what signed a request.
        throttle: delays wrong attempts, for the form and for HTTP Basic.
        record: records the failed ones.
        app_id: of the further application whose pages these are; its cookie opens no others.
    """

    def __init__(
        self,
        accounts: Iterable[Account],
        cookie_secret: str,
        signed_by: SignedBy,
        throttle: Throttle,
        record: Record,
        app_id: str = "",
    ) -> None:
        # A browser sends the cookie of the default application as well, whose path is above: its name is another one.
        self._cookie = f"{COOKIE}_{app_id}" if app_id else COOKIE
        self._accounts = [account for account in accounts if account.password]
        self._tickets = URLSafeTimedSerializer(
            cookie_secret, salt=f"channelstream.admin.{app_id}".rstrip(".")
        )
        self._signed_by = signed_by
        self._throttle = throttle
        self._record = record

    def routes(self, rows: Iterable[Row]) -> list[BaseRoute]:
        """Return the routes of guarded pages. Only here it is decided who may use them."""
        return [
            Route(
                row.path,
                self._guarded(row),
                methods=list(row.methods),
                max_body_size=row.max_body_bytes,
            )
            for row in rows
        ]

    def _guarded(self, row: Row) -> Endpoint:
        """Return the endpoint of a row, which answers errors of it as the API does."""

        async def guarded(request: Request) -> Response:
            try:
                caller = await self._caller(request, row)
                if caller is None:
                    return basic_refused() if _basic_password(request) is not None else row.refuse(request)
                _check(request, caller, row.right)
                return await row.endpoint(admitted(request, caller))
            except ChannelstreamError as error:
                return error_response(error)

        return guarded

    async def _caller(self, request: Request, row: Row) -> Caller | None:
        """Return who asks; None without valid credentials.

        Raises:
            TooManyRequests: too many attempts are waiting.
            Forbidden: the password is right and public, and the caller is not on this machine.
        """
        caller = self.signed_in(request)
        if caller is not None:
            return caller
        if row.is_open(request):
            return Caller("", address_of(request), may_change=False)
        signer = await self._signed_by(request, partial(_body, request, row))
        if signer is not None:
            return Caller(signer, address_of(request), may_change=True)
        password = _basic_password(request)
        if password is None:
            return None
        account = await self._attempt(request, lambda: self._account_of_password(password), "by HTTP Basic")
        return None if account is None else _caller_with(account, request)

    async def sign_in(self, request: Request, user: str, password: str) -> Account | None:
        """Return the account of a user and password; None if they are wrong, after a delay.

        Raises:
            TooManyRequests: too many attempts are waiting.
            Forbidden: they are right, the password is public, and the caller is not on this machine.
        """

        def find() -> Account | None:
            # All are compared, so that the time taken reveals nothing about any.
            found = [
                each for each in self._accounts if _equal(user, each.user) & _equal(password, each.password)
            ]
            return found[0] if found else None

        # What else was typed as a name may be a password.
        known = user if user in {each.user for each in self._accounts} else ""
        return await self._attempt(request, find, f"as {known}" if known else "under an unknown name")

    async def _attempt(
        self, request: Request, find: Callable[[], Account | None], how: str
    ) -> Account | None:
        account = await self._throttle.attempt(address_of(request), find, _forgives)
        if account is None:
            self._record(Act("", address_of(request), Did.FAILED, more=how))
        elif not _may_enter(account, request):
            raise Forbidden(PUBLIC)
        return account

    def signed_in(self, request: Request) -> Caller | None:
        """Return whom a valid cookie of this server names that is at most `COOKIE_AGE_S` old."""
        account = self._account_of_ticket(request)
        return None if account is None else _caller_with(account, request, has_ticket=True)

    def had_ticket(self, request: Request) -> bool:
        """Return whether the request carries a cookie that is not valid any more."""
        return self._cookie in request.cookies and self._account_of_ticket(request) is None

    def _account_of_ticket(self, request: Request) -> Account | None:
        ticket = read_signed(self._tickets, request.cookies.get(self._cookie, ""), COOKIE_AGE_S)
        return next(
            (each for each in self._accounts if ticket == each.ticket and _may_enter(each, request)), None
        )

    def set_ticket(self, request: Request, response: Response, account: Account) -> None:
        response.set_cookie(
            self._cookie,
            self._tickets.dumps(account.ticket),
            max_age=COOKIE_AGE_S,
            path=root(request) or "/",
            secure=request.url.scheme == "https",
            httponly=True,
            samesite="lax",
        )

    def clear_ticket(self, request: Request, response: Response) -> None:
        response.delete_cookie(self._cookie, path=root(request) or "/", httponly=True, samesite="lax")

    def _account_of_password(self, password: str) -> Account | None:
        found = [each for each in self._accounts if _equal(password, each.password)]
        return found[0] if found else None


def _may_enter(account: Account, request: Request) -> bool:
    """Whether an account admits a caller: with a public password only on this machine."""
    return not account.is_public or bool(request.scope[IS_LOCAL])


def _check(request: Request, caller: Caller, right: PageRight) -> None:
    """Check that the caller may do what the row does.

    Raises:
        Forbidden: it takes another right, or another site has sent the request.
    """
    if right is PageRight.LOOK:
        return
    if not caller.may_change:
        raise Forbidden(READ_ONLY)
    if not is_same_origin(request):
        raise Forbidden(FOREIGN)


async def _body(request: Request, row: Row) -> bytes:
    """Return the body of a request; that of a path that reads none counts as empty."""
    return b"" if row.max_body_bytes is None else await request.body()


def _forgives(account: Account | None) -> bool:
    """Whether the right password of an account ends the delays: with that of a reader nobody may guess the other faster."""
    return account is not None and account.may_change


def address_of(request: Request) -> str:
    return request.client.host if request.client else ""


def _caller_with(account: Account, request: Request, *, has_ticket: bool = False) -> Caller:
    return Caller(account.user, address_of(request), account.may_change, has_ticket)


def _equal(one: str, other: str) -> bool:
    """Compare two texts in a time that depends on neither."""
    return hmac.compare_digest(sha256(one.encode()).digest(), sha256(other.encode()).digest())


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
