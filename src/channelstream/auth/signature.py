"""Signatures as in both older generations: itsdangerous' TimestampSigner over the path, or the raw secret in the query."""

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from channelstream.apps.app import App
from channelstream.apps.principal import ALL_RIGHTS, Principal
from channelstream.auth.access import LOOPBACK
from channelstream.auth.base import AuthRequest
from channelstream.core.addresses import Networks
from channelstream.core.query import read_query
from channelstream.errors import Forbidden

SECRET_HEADER = b"x-channelstream-secret"


class Checker(Protocol):
    """Verifies a signature: `core.signing.SignatureChecker`, or the class that `signature_checker` names."""

    def check(self, token: str, path: str, now_s: float) -> None: ...


@dataclass(frozen=True, slots=True)
class SignatureRules:
    """The options of this scheme.

    Attributes:
        secret: the shared secret, for requests that carry it unsigned in the query.
        raw_secret: which callers may send it unsigned: `loopback`, `always` or `never`.
        allowed: addresses that may call.
    """

    secret: str
    raw_secret: str
    allowed: Networks


class SignatureAuth:
    """Admits the server of one application, which may do everything (`auth.base.RequestAuth`)."""

    def __init__(self, app: App, rules: SignatureRules, checker: Checker, wall: Callable[[], float]) -> None:
        self._server = Principal(app, ALL_RIGHTS)
        self._rules = rules
        self._checker = checker
        self._wall = wall

    def principal(self, request: AuthRequest) -> Principal:
        address = request.address
        if not self._rules.allowed.has(address):
            raise Forbidden("This address may not call the API; see the option allow_posting_from.")
        given = request.header(SECRET_HEADER)
        if given is not None:
            token = given.decode("latin-1")
        else:
            token = read_query(request.query).get("secret", "")
            if token and self._is_raw_secret(token, address):
                return self._server
        if not token:
            raise Forbidden(
                "The request is not signed: send the header authorization or x-channelstream-secret; "
                "see the option request_signing."
            )
        self._checker.check(token, request.path, self._wall())
        return self._server

    def verify_body(self, request: AuthRequest, body: bytes) -> None:
        """Accept any body: these signatures bind the path and the time only."""

    def _is_raw_secret(self, token: str, address: str) -> bool:
        mode = self._rules.raw_secret
        if mode == "never" or (mode == "loopback" and not LOOPBACK.has(address)):
            return False
        return hmac.compare_digest(token.encode(), self._rules.secret.encode())
