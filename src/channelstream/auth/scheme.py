"""Chooses how a request proves for whom it acts: by its headers, among the forms that are accepted."""

from dataclasses import dataclass

from channelstream.apps.principal import Principal
from channelstream.auth.access import RequestSigning
from channelstream.auth.base import AuthRequest, Once, RequestAuth
from channelstream.auth.hmac import AUTHORIZATION
from channelstream.auth.signature import SECRET_HEADER
from channelstream.core.query import read_query
from channelstream.core.request_signing import SCHEME
from channelstream.errors import BadSignature, Forbidden

CHALLENGE = (b"www-authenticate", SCHEME.encode())
"""Tells a refused caller that it may sign whole requests (RFC 9110, 11.6.1)."""
_HMAC, _BEARER = SCHEME.lower().encode(), b"bearer"
_OLD, _SIGNED, _ANY = RequestSigning.OLD, RequestSigning.SIGNED, RequestSigning.ANY
"""The members of the enum as globals: CPython 3.11 takes 45 ns to find an attribute of its class."""


@dataclass(frozen=True, slots=True)
class SchemeAuth:
    """Passes each request on to the scheme of its credentials (`auth.base.RequestAuth`).

    An `Authorization` of another scheme is none of ours: a proxy in front may have asked for it. So is a bearer token
    beside an old signature.

    Attributes:
        signing: which forms are accepted.
        signed: that of requests that are signed as a whole.
        bearer: that of requests that carry a secret.
        old: that of the older generations.
    """

    signing: RequestSigning
    signed: RequestAuth
    bearer: RequestAuth
    old: RequestAuth

    def principal(self, request: AuthRequest) -> Principal:
        try:
            # As `_scheme` decides, without a call: most requests have an old form.
            if self.signing is _ANY and request.header(AUTHORIZATION) is None:
                return self.old.principal(request)
            return self._scheme(request).principal(request)
        except (BadSignature, Forbidden) as error:
            self._challenge(error)
            raise

    def verify_body(self, request: AuthRequest, body: bytes) -> Once | None:
        try:
            return self._scheme(request).verify_body(request, body)
        except BadSignature as error:
            self._challenge(error)
            raise

    def _scheme(self, request: AuthRequest) -> RequestAuth:
        """Return the scheme of a request.

        Raises:
            Forbidden: it has only credentials of a form that is not accepted, or none.
        """
        if self.signing is _OLD:
            return self.old
        credentials = request.header(AUTHORIZATION)
        if credentials is not None:
            name = credentials.partition(b" ")[0].lower()
            if name == _HMAC:
                return self.signed
            if name == _BEARER and not _has_old_credentials(request):
                return self.bearer
        if self.signing is _SIGNED:
            raise Forbidden(
                f"The request is not signed: send the header authorization with {SCHEME}; see the option request_signing."
            )
        return self.old

    def _challenge(self, error: BadSignature | Forbidden) -> None:
        if self.signing is not _OLD:
            error.headers = (*error.headers, CHALLENGE)


def repeated() -> BadSignature:
    """Return the refusal of a signed request that another node has answered: as every other fault is refused."""
    error = BadSignature()
    error.headers = (*error.headers, CHALLENGE)
    return error


def _has_old_credentials(request: AuthRequest) -> bool:
    return request.header(SECRET_HEADER) is not None or "secret" in read_query(request.query)
