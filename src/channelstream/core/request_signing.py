"""Signatures over a whole request: method, target, time, nonce and body (docs/security.md#signed-requests).

The text that is signed has a line each for `v1`, the method, the target (path and query as they are sent), the time in
seconds, the nonce, and the SHA-256 of the body in hexadecimal digits. The signature is its HMAC-SHA256 (RFC 2104).
"""

import hmac
import re
from base64 import b64decode, b64encode
from hashlib import sha256
from typing import NamedTuple, Self

SCHEME = "CS-HMAC-SHA256"
"""The scheme in the header Authorization (RFC 9110, 11.6.2)."""
VERSION = "v1"

_PARAMETERS = re.compile(
    r"key=([A-Za-z0-9_-]{0,64}),[ \t]*ts=([1-9][0-9]{0,11}),[ \t]*nonce=([A-Za-z0-9_-]{16,64}),[ \t]*sig=([0-9a-f]{64})",
    re.ASCII,
)
"""In this order and spelling only: a header has one meaning. The shortest nonce has 96 bits in base64: two callers never
draw the same."""

_DIGEST = re.compile(rb"sha-256=:([A-Za-z0-9+/]{43}=):")


class RequestSignature(NamedTuple):
    """The signature of a request, as its header has it.

    Attributes:
        key_id: the key; empty for the option `secret`.
        signed_s: when it was signed, in seconds since the epoch.
        nonce: a random text, another one for each request.
        mac: hexadecimal digits.
    """

    key_id: str
    signed_s: int
    nonce: str
    mac: str

    @classmethod
    def read(cls, parameters: str) -> Self | None:
        """Return the signature in the parameters after the scheme; None if they are not as this form has them."""
        found = _PARAMETERS.fullmatch(parameters)
        if found is None:
            return None
        key_id, signed_s, nonce, mac = found.groups()
        return cls(key_id, int(signed_s), nonce, mac)

    @property
    def header(self) -> str:
        """The value of the header Authorization."""
        return f"{SCHEME} key={self.key_id}, ts={self.signed_s}, nonce={self.nonce}, sig={self.mac}"

    def is_genuine(self, secret: str, method: str, target: bytes, body_hash: bytes) -> bool:
        """Whether this secret signed this request; compares in a time that does not depend on it.

        Args:
            body_hash: the SHA-256 of the body.
        """
        text = signed_text(method, target, self.signed_s, self.nonce, body_hash)
        return hmac.compare_digest(hmac.digest(secret.encode(), text, "sha256").hex(), self.mac)


def signed_text(method: str, target: bytes, signed_s: int, nonce: str, body_hash: bytes) -> bytes:
    """Return the text of which the HMAC is the signature.

    Args:
        target: path and query, without the prefix that a proxy strips; an empty query has no question mark.
        signed_s: seconds since the epoch.
        body_hash: the SHA-256 of the body.
    """
    return b"%b\n%b\n%b\n%d\n%b\n%b" % (
        VERSION.encode(),
        method.encode(),
        target,
        signed_s,
        nonce.encode(),
        body_hash.hex().encode(),
    )


def sign(key_id: str, secret: str, method: str, target: bytes, signed_s: int, nonce: str, body: bytes) -> str:
    """Return the value of the header Authorization that signs a request; the other arguments are those of `signed_text`."""
    text = signed_text(method, target, signed_s, nonce, hash_of(body))
    mac = hmac.digest(secret.encode(), text, "sha256").hex()
    return RequestSignature(key_id, signed_s, nonce, mac).header


def hash_of(body: bytes) -> bytes:
    """Return the SHA-256 of a body."""
    return sha256(body).digest()


def read_digest(value: bytes) -> bytes | None:
    """Return the SHA-256 in a header Content-Digest (RFC 9530, 2); None if it has another form."""
    found = _DIGEST.fullmatch(value)
    return None if found is None else b64decode(found[1])


def digest_header(body: bytes) -> str:
    """Return the value of the header Content-Digest of a body."""
    return f"sha-256=:{b64encode(hash_of(body)).decode()}:"
