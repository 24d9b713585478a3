"""Access control of the API: allowed addresses and valid signatures, checked before the body is read."""

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from channelstream.core.addresses import Networks
from channelstream.core.policy import Policy, header
from channelstream.core.query import read_query
from channelstream.errors import BadSignature, Forbidden

SECRET_HEADER = b"x-channelstream-secret"


class Checker(Protocol):
    """Verifies a signature: `core.signing.SignatureChecker`, or the class that `signature_checker` names."""

    def check(self, token: str, path: str, now_s: float) -> None: ...


@dataclass(frozen=True, slots=True)
class AccessRules:
    """The options for access.

    Attributes:
        secret: the shared secret, for requests that carry it unsigned in the query.
        raw_secret: which callers may send it unsigned: `loopback`, `always` or `never`.
        allowed: addresses that may call.
    """

    secret: str
    raw_secret: str
    allowed: Networks


class Access:
    """Admits or refuses signed requests."""

    def __init__(
        self, rules: AccessRules, policy: Policy, checker: Checker, wall: Callable[[], float]
    ) -> None:
        self._rules = rules
        self._policy = policy
        self._checker = checker
        self._wall = wall
        self._loopback = Networks(("127.0.0.0/8", "::1"))

    def check(self, scope: Any) -> None:
        """Return if the request may proceed.

        Raises:
            Forbidden: the address may not call, or the request has no signature.
            BadSignature: the signature is not valid.
        """
        address = self._policy.client(scope)
        if not self._rules.allowed.has(address):
            raise Forbidden("This address may not call the API; see the option allow_posting_from.")
        given = header(scope["headers"], SECRET_HEADER)
        if given is not None:
            token = given.decode("latin-1")
        else:
            token = read_query(scope["query_string"]).get("secret", "")
            if token and self._is_raw_secret(token, address):
                return
        if not token:
            raise Forbidden("The request is not signed: send the header x-channelstream-secret.")
        self._checker.check(token, scope["path"], self._wall())

    def is_signed(self, scope: Any) -> bool:
        """Return whether a request for a page carries a valid signature."""
        try:
            self.check(scope)
        except (Forbidden, BadSignature):
            return False
        return True

    def _is_raw_secret(self, token: str, address: str) -> bool:
        mode = self._rules.raw_secret
        if mode == "never" or (mode == "loopback" and not self._loopback.has(address)):
            return False
        return hmac.compare_digest(token.encode(), self._rules.secret.encode())
