"""Who the demo's visitors are: a name, kept in a signed cookie, that nobody else may take."""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf

from itsdangerous import BadSignature, URLSafeTimedSerializer
from starlette.requests import Request
from starlette.responses import Response

from channelstream.pages.bounded import Bounded
from channelstream.pages.demo_input import Refused
from channelstream.pages.html import root

COOKIE = "demo_visitor"
COOKIE_AGE_S = 24 * 3600
"""A name that is not used for as long is free again."""
NAMES = 10_000
"""Names remembered; beyond it the one used longest ago is free again."""


@dataclass(frozen=True)
class Visitor:
    """Someone at a browser; the random id tells two people apart who want the same name."""

    id: str
    name: str


@dataclass(frozen=True)
class Claim:
    """Whose a name is.

    Attributes:
        latest_s: when it was last used; minus infinity once it was let go.
        is_first: nobody else is known to have had it, so that what was sent to it was meant for this visitor.
    """

    visitor_id: str
    latest_s: float
    is_first: bool


class Visitors:
    """Gives names to visitors and knows them again by their cookie."""

    def __init__(self, cookie_secret: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._cookies = URLSafeTimedSerializer(cookie_secret, salt="channelstream.demo")
        self._clock = clock
        self._claims: Bounded[str, Claim] = Bounded(NAMES)

    def of(self, request: Request) -> Visitor | None:
        """Return who sent the request, None without a cookie of ours."""
        try:
            return Visitor(*self._cookies.loads(request.cookies.get(COOKIE, ""), max_age=COOKIE_AGE_S))
        except BadSignature:
            return None

    def signed_in(self, request: Request) -> Visitor:
        """Return who sent the request.

        Raises:
            Refused: nobody has signed in.
        """
        visitor = self.of(request)
        if visitor is None:
            raise Refused(401, "Please choose a name.")
        return visitor

    def claim(self, request: Request, name: str) -> Visitor:
        """Give the name to whoever sent the request; Bob and bob are one name.

        Raises:
            Refused: somebody else has it.
        """
        known = self.of(request)
        visitor_id = known.id if known else secrets.token_urlsafe(16)
        now = self._clock()
        claim = self._claims.get(name.casefold())
        if claim and claim.visitor_id != visitor_id and now - claim.latest_s < COOKIE_AGE_S:
            raise Refused(409, "Somebody else has that name. Please choose another.")
        is_first = claim is None or (claim.visitor_id == visitor_id and claim.is_first)
        self._claims[name.casefold()] = Claim(visitor_id, now, is_first)
        return Visitor(visitor_id, name)

    def release(self, visitor: Visitor) -> None:
        """Let others have the visitor's name."""
        claim = self._claims.get(visitor.name.casefold())
        if claim and claim.visitor_id == visitor.id:
            self._claims[visitor.name.casefold()] = replace(claim, latest_s=-inf)

    def may_resume(self, visitor: Visitor) -> bool:
        """Whether the visitor may read what was sent to the name while it had no connection."""
        claim = self._claims.get(visitor.name.casefold())
        return claim is not None and claim.visitor_id == visitor.id and claim.is_first

    def set_cookie_of(self, request: Request, response: Response, visitor: Visitor) -> None:
        response.set_cookie(
            COOKIE,
            self._cookies.dumps([visitor.id, visitor.name]),
            max_age=COOKIE_AGE_S,
            path=f"{root(request)}/demo",
            secure=request.url.scheme == "https",
            httponly=True,
            samesite="lax",
        )

    def clear_cookie(self, request: Request, response: Response) -> None:
        response.delete_cookie(COOKIE, path=f"{root(request)}/demo", httponly=True, samesite="lax")
