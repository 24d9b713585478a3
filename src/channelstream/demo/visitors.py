"""The demo's visitors. A visitor has a name that no other visitor can take, kept in a signed cookie."""

import secrets
import time
from dataclasses import dataclass, replace
from math import inf

from itsdangerous import URLSafeTimedSerializer
from starlette.requests import Request
from starlette.responses import Response

from channelstream.demo.input import Refused
from channelstream.pages.bounded import Bounded
from channelstream.pages.html import root
from channelstream.pages.signed import read_signed

COOKIE = "demo_visitor"
COOKIE_AGE_S = 24 * 3600
"""After so long without use a name is free again."""
NAMES = 10_000
"""Most names that are remembered. Beyond it the name that was used longest ago is free again."""


@dataclass(frozen=True)
class Visitor:
    """A person at a browser. The random id distinguishes two people who want the same name."""

    id: str
    name: str


@dataclass(frozen=True)
class Claim:
    """The owner of a name.

    Attributes:
        latest_s: when the name was last used; minus infinity after it was released.
        is_first: no other visitor is known to have had the name, so messages to it were meant for this visitor.
    """

    visitor_id: str
    latest_s: float
    is_first: bool


class Visitors:
    """Gives names to visitors and recognizes visitors by their cookie."""

    def __init__(self, cookie_secret: str) -> None:
        self._cookies = URLSafeTimedSerializer(cookie_secret, salt="channelstream.demo")
        self._claims: Bounded[str, Claim] = Bounded(NAMES)

    def of(self, request: Request) -> Visitor | None:
        """Return the visitor who sent the request, or None if it has no valid cookie."""
        found = read_signed(self._cookies, request.cookies.get(COOKIE, ""), COOKIE_AGE_S)
        return None if found is None else Visitor(*found)

    def signed_in(self, request: Request) -> Visitor:
        """Return the visitor who sent the request.

        Raises:
            Refused: the visitor has not signed in.
        """
        visitor = self.of(request)
        if visitor is None:
            raise Refused(401, "Please choose a name.")
        return visitor

    def claim(self, request: Request, name: str) -> Visitor:
        """Give the name to the visitor who sent the request. Upper and lower case are the same name.

        Raises:
            Refused: another visitor has it.
        """
        known = self.of(request)
        visitor_id = known.id if known else secrets.token_urlsafe(16)
        now = time.monotonic()
        claim = self._claims.get(name.casefold())
        if claim and claim.visitor_id != visitor_id and now - claim.latest_s < COOKIE_AGE_S:
            raise Refused(409, "Somebody else has that name. Please choose another.")
        is_first = claim is None or (claim.visitor_id == visitor_id and claim.is_first)
        self._claims[name.casefold()] = Claim(visitor_id, now, is_first)
        return Visitor(visitor_id, name)

    def holder(self, name: str) -> Visitor | None:
        """Return the visitor who has the name now, or None if it is free."""
        claim = self._claims.get(name.casefold())
        is_held = claim is not None and time.monotonic() - claim.latest_s < COOKIE_AGE_S
        return Visitor(claim.visitor_id, name) if claim and is_held else None

    def release(self, visitor: Visitor) -> None:
        """Make the visitor's name free for others."""
        claim = self._claims.get(visitor.name.casefold())
        if claim and claim.visitor_id == visitor.id:
            self._claims[visitor.name.casefold()] = replace(claim, latest_s=-inf)

    def may_resume(self, visitor: Visitor) -> bool:
        """Return whether the visitor may read messages that were sent to the name while it had no connection."""
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
