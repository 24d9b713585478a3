"""Signatures as in both older generations: itsdangerous' TimestampSigner over the path, or the raw secret in the query."""

import hmac
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from channelstream.apps.app import App
from channelstream.apps.principal import ALL_RIGHTS, Principal
from channelstream.auth.access import foreign_address
from channelstream.auth.base import AuthRequest
from channelstream.auth.keyed import OnOlder
from channelstream.core.addresses import LOOPBACK, Networks
from channelstream.core.query import read_query
from channelstream.errors import BadSignature, ConfigError, Forbidden

SECRET_HEADER = b"x-channelstream-secret"


class Checker(Protocol):
    """Verifies a signature: `core.signing.SignatureChecker`, or the class that `signature_checker` names."""

    def check(self, token: str, path: str, now_s: float) -> float | None:
        """Accept a token for a path; return until when it will be accepted, in epoch seconds; None if that is not known.

        Raises:
            BadSignature: it is not valid.
        """


class _Proof:
    """The proof that the newest secret has made a signature, and until when it holds (`auth.base.Proof`)."""

    __slots__ = ("_known", "_secrets", "_since_s", "_until_s", "_wall", "principal")

    def __init__(
        self,
        principal: Principal,
        secrets: Callable[[], tuple[str, ...]],
        wall: Callable[[], float],
        since_s: float,
        until_s: float,
    ) -> None:
        self.principal = principal
        self._secrets = secrets
        self._known = secrets()
        self._wall = wall
        self._since_s = since_s
        self._until_s = until_s

    def holds(self) -> bool:
        # The wall clock may jump: a signature must not come from the future either.
        return self._secrets() is self._known and self._since_s <= self._wall() <= self._until_s


@dataclass(frozen=True, slots=True)
class SignatureRules:
    """The options of this scheme.

    Attributes:
        raw_secret: which callers may send a secret itself in the query: `loopback`, `always` or `never`.
        allowed: addresses that may call.
    """

    raw_secret: str
    allowed: Networks


class SignatureAuth:
    """Admits the server of one application, which may do everything (`auth.base.RequestAuth`)."""

    def __init__(
        self,
        app: App,
        rules: SignatureRules,
        secrets: Callable[[], tuple[str, ...]],
        make_checker: Callable[[str], Checker],
        wall: Callable[[], float],
        on_older: OnOlder = lambda app_id, address: None,
    ) -> None:
        """Create the scheme.

        Args:
            secrets: returns those of the application, any of which may have signed a request: the same tuple until they
                change.
            make_checker: returns what verifies the signatures of a secret.
            wall: returns epoch seconds.
            on_older: called for each request with an older secret.

        Raises:
            ConfigError: `make_checker` did.
        """
        self._server = Principal(app, ALL_RIGHTS, binds_body=False)
        self._rules = rules
        self._secrets = secrets
        self._make_checker = make_checker
        self._known = secrets()
        self._checkers = {each: make_checker(each) for each in self._known}
        self._wall = wall
        self._on_older = on_older

    def principal(self, request: AuthRequest) -> Principal:
        address = request.address
        if not self._rules.allowed.has(address):
            raise foreign_address()
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
        request.proof = self._check(token, request.path, address)
        return self._server

    def verify_body(self, request: AuthRequest, body: bytes) -> None:
        """Accept any body: these signatures bind the path and the time only."""

    def _check(self, token: str, path: str, address: str) -> _Proof | None:
        """Accept a signature of any of the secrets; return a proof if it is of the newest one, and its end is known.

        Raises:
            BadSignature: it is of none.
        """
        now_s, secrets = self._wall(), self._secrets()
        if secrets is not self._known:
            self._take(secrets)
        for secret, checker in self._checkers.items():
            try:  # `suppress` would take as long as the check itself, of which the result is remembered.
                until_s = checker.check(token, path, now_s)
            except BadSignature:
                continue
            if secret is not secrets[0]:
                self._on_older(self._server.app.id, address)
                return None
            if until_s is None:
                return None
            return _Proof(self._server, self._secrets, self._wall, now_s, until_s)
        raise BadSignature

    def _take(self, secrets: tuple[str, ...]) -> None:
        """Keep a checker for each secret, and forget that of a secret that is gone, with what it has accepted."""
        before, self._known, self._checkers = self._checkers, secrets, {}
        for each in secrets:
            with suppress(ConfigError):  # Foreign code may refuse this secret.
                self._checkers[each] = before.get(each) or self._make_checker(each)

    def _is_raw_secret(self, token: str, address: str) -> bool:
        mode = self._rules.raw_secret
        if mode == "never" or (mode == "loopback" and not LOOPBACK.has(address)):
            return False
        for number, secret in enumerate(self._secrets()):
            if hmac.compare_digest(token.encode(), secret.encode()):
                if number:
                    self._on_older(self._server.app.id, address)
                return True
        return False
