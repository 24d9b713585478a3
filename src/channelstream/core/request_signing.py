"""Signatures over a whole request: method, target, time, nonce and body (docs/security.md#signed-requests).

The text that is signed has a line each for `v1`, the method, the target (path and query as they are sent), the time in
seconds, the nonce, and the SHA-256 of the body in hexadecimal digits. The signature is its HMAC-SHA256 (RFC 2104).
"""

import hmac
import re
from hashlib import sha256
from typing import NamedTuple, Self

SCHEME = "CS-HMAC-SHA256"
"""The scheme in the header Authorization (RFC 9110, 11.6.2)."""
VERSION = "v1"
MAX_NONCE = 64
"""Longest nonce, in characters. The shortest has 16, which are 96 bits in base64: two callers never draw the same."""

_PARAMETERS = re.compile(
    r"key=([A-Za-z0-9_-]{0,64}),[ \t]*ts=([1-9][0-9]{0,11}),[ \t]*nonce=([A-Za-z0-9_-]{16,64}),[ \t]*sig=([0-9a-f]{64})",
    re.ASCII,
)
"""In this order and spelling only: a header has one meaning."""


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

    def is_genuine(self, secret: str, method: str, target: bytes, body: bytes) -> bool:
        """Whether this secret signed this request; compares in a time that does not depend on it."""
        expected = mac_of(secret, method, target, self.signed_s, self.nonce, body)
        return hmac.compare_digest(expected, self.mac)


def mac_of(secret: str, method: str, target: bytes, signed_s: int, nonce: str, body: bytes) -> str:
    """Return the HMAC of a request.

    Args:
        target: path and query, without the prefix that a proxy strips; an empty query has no question mark.
        signed_s: seconds since the epoch.
    """
    text = signed_text(method, target, signed_s, nonce, body)
    return hmac.digest(secret.encode(), text, "sha256").hex()


def signed_text(method: str, target: bytes, signed_s: int, nonce: str, body: bytes) -> bytes:
    """Return the text of which the HMAC is the signature."""
    return b"%b\n%b\n%b\n%d\n%b\n%b" % (
        VERSION.encode(),
        method.encode(),
        target,
        signed_s,
        nonce.encode(),
        sha256(body).hexdigest().encode(),
    )


def sign(key_id: str, secret: str, method: str, target: bytes, signed_s: int, nonce: str, body: bytes) -> str:
    """Return the value of the header Authorization that signs a request; the arguments are those of `mac_of`."""
    return RequestSignature(
        key_id, signed_s, nonce, mac_of(secret, method, target, signed_s, nonce, body)
    ).header
