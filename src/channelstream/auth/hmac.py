"""Requests that are signed as a whole, by a key that they name (`core.request_signing`)."""

from channelstream.apps.api_key import ApiKey
from channelstream.apps.principal import Principal
from channelstream.auth.access import RequestSigning
from channelstream.auth.base import AuthRequest, Once
from channelstream.auth.keyed import KeyFinder
from channelstream.core.request_signing import RequestSignature, hash_of, read_digest
from channelstream.errors import BadSignature

AUTHORIZATION = b"authorization"
CLOCKS_S = 10.0
"""How far the clocks of two nodes may differ: for so long a nonce is kept beyond the time of its signature."""


class HmacAuth:
    """Admits the servers of applications whose requests a key has signed (`auth.base.RequestAuth`).

    The signature binds the hash of the body. Where the head has that hash (Content-Digest), or there is no body, it is
    proven before anything is read; else with the body, of which the API bounds those that are not proven yet. A nonce
    counts when the signature is genuine and the body is there: a stranger cannot use up anybody's.
    """

    def __init__(self, keys: KeyFinder) -> None:
        self._keys = keys

    def principal(self, request: AuthRequest) -> Principal:
        signature = _signature_of(request)
        key, rules = self._keys.find(signature.key_id, request, *_FORMS)
        now_s = self._keys.wall()
        if not rules.nonces.is_timely(signature.signed_s, now_s):
            raise BadSignature
        rules.nonces.check_begun(signature.signed_s, now_s)
        rules.nonces.check(key.id, signature.nonce)
        body_hash = _announced_hash(request)
        if body_hash is None:
            return key.principal(is_proven=False)
        self._prove(signature, key, request, body_hash)
        return key.principal()

    def verify_body(self, request: AuthRequest, body: bytes) -> Once:
        signature = _signature_of(request)
        key, rules = self._keys.find(signature.key_id, request, *_FORMS)
        body_hash, announced = hash_of(body), _announced_hash(request)
        if announced is None:
            self._prove(signature, key, request, body_hash)
        elif announced != body_hash:  # `principal` has checked the signature over the announced one.
            raise BadSignature
        now_s = self._keys.wall()
        if not rules.nonces.is_timely(signature.signed_s, now_s):
            raise BadSignature
        rules.nonces.check_begun(signature.signed_s, now_s)
        rules.nonces.add(key.id, signature.nonce, signature.signed_s, now_s)
        keep_s = rules.nonces.left_s(signature.signed_s, now_s) + CLOCKS_S
        return Once(f"{key.id}:{signature.nonce}", keep_s)

    def _prove(
        self, signature: RequestSignature, key: ApiKey, request: AuthRequest, body_hash: bytes
    ) -> None:
        """Accept a signature of any secret of a key.

        Raises:
            BadSignature: it is of none.
        """
        for secret in key.secrets:
            if signature.is_genuine(secret, request.method, request.target, body_hash):
                self._keys.used(key, secret, request)
                return
        raise BadSignature


_EMPTY = hash_of(b"")
_FORMS = (RequestSigning.SIGNED, RequestSigning.ANY)


def _signature_of(request: AuthRequest) -> RequestSignature:
    """Return the signature in the header of a request.

    Raises:
        BadSignature: it is not one.
    """
    value = request.header(AUTHORIZATION) or b""
    signature = RequestSignature.read(value.partition(b" ")[2].strip().decode("latin-1"))
    if signature is None:
        raise BadSignature
    return signature


def _announced_hash(request: AuthRequest) -> bytes | None:
    """Return the hash that the body of a request has to have; None if the head does not say it."""
    digest = request.header(b"content-digest")
    if digest is not None:
        return read_digest(digest)
    is_empty = (
        request.header(b"content-length") in (None, b"0") and request.header(b"transfer-encoding") is None
    )
    return _EMPTY if is_empty else None
