"""Requests that carry the secret of a key itself: `Authorization: Bearer ID.SECRET` (RFC 6750, 2.1)."""

import hmac

from channelstream.apps.principal import Principal
from channelstream.auth.access import RequestSigning
from channelstream.auth.base import AuthRequest
from channelstream.auth.hmac import AUTHORIZATION
from channelstream.auth.keyed import KeyFinder
from channelstream.core.addresses import LOOPBACK
from channelstream.errors import BadSignature, Forbidden


class BearerAuth:
    """Admits the servers of applications that show a secret, over TLS or from this machine (`auth.base.RequestAuth`)."""

    def __init__(self, keys: KeyFinder) -> None:
        self._keys = keys

    def principal(self, request: AuthRequest) -> Principal:
        if request.scheme != "https" and not LOOPBACK.has(request.address):
            raise Forbidden(
                "A bearer key is accepted over https, or from the same machine, only. Others on the network may have seen"
                " this one: revoke it, and sign requests."
            )
        token = (request.header(AUTHORIZATION) or b"").partition(b" ")[2].strip().decode("latin-1")
        key_id, _, secret = token.partition(".")
        key, _ = self._keys.find(key_id, request, RequestSigning.ANY)
        given = secret.encode("latin-1")
        for each in key.secrets:
            if hmac.compare_digest(given, each.encode()):
                self._keys.used(key, each, request)
                return key.principal()
        raise BadSignature

    def verify_body(self, request: AuthRequest, body: bytes) -> None:
        """Accept any body: a bearer key binds nothing."""
