"""Signs calls, and finds out which form of signatures the server knows. No I/O: time and randomness are passed in.

A call is signed as a whole (`CS-HMAC-SHA256`), so that nobody who reads it can send it again, or its signature with
something else. Servers before 1.0 know only signatures of the path. With `auto` the client begins with the new form. If the
server refuses it, and does not say in `WWW-Authenticate` that it knows it, the same call is signed in the old form. What
is answered well decides for good, so no later refusal makes this client fall back.
"""

import hmac
import logging
from base64 import b64encode
from collections.abc import Callable
from hashlib import sha256
from typing import Literal

from itsdangerous import TimestampSigner

Form = Literal["signed", "old"]
Signing = Literal["auto", "signed", "old"]

SCHEME = "CS-HMAC-SHA256"
OPEN_PATH = "/disconnect"
"""The call that needs no signature: its answer tells nothing about forms."""
_REFUSALS = (401, 403)

logger = logging.getLogger("channelstream_client")


def sign(key_id: str, secret: str, method: str, target: str, signed_s: int, nonce: str, body: bytes) -> str:
    """Return the header Authorization that signs a request as a whole (docs/security.md, "Signed requests").

    Args:
        key_id: empty for the server's option `secret`.
        target: path and query as they are sent.
        signed_s: seconds since the epoch.
        nonce: 16 to 64 letters, digits, dashes and underscores, other ones for each request.
    """
    text = f"v1\n{method}\n{target}\n{signed_s}\n{nonce}\n{sha256(body).hexdigest()}"
    mac = hmac.digest(secret.encode(), text.encode(), "sha256").hex()
    return f"{SCHEME} key={key_id}, ts={signed_s}, nonce={nonce}, sig={mac}"


def digest_of(body: bytes) -> str:
    """Return the header Content-Digest of a body (RFC 9530, 2)."""
    return f"sha-256=:{b64encode(sha256(body).digest()).decode()}:"


class Signer:
    """Signs the calls of one client.

    Attributes:
        form: the one that the server has accepted; None as long as that is open.
    """

    def __init__(
        self,
        secret: str,
        key_id: str,
        signing: Signing,
        wall: Callable[[], float],
        new_nonce: Callable[[], str],
    ) -> None:
        """Create a signer.

        Args:
            secret: of the key.
            key_id: empty for the server's option `secret`; old signatures name no other key.
            signing: which form; `auto` finds it out.
            wall: returns seconds since the epoch.
            new_nonce: returns a random text of 16 to 64 letters, digits, dashes and underscores.

        Raises:
            ValueError: `signing` is not one of these words, or is `old` with a `key_id`.
        """
        if signing not in ("auto", "signed", "old"):
            raise ValueError(f"signing is auto, signed or old, not {signing!r}")
        if signing == "old" and key_id:
            raise ValueError("an old signature names no key: use signing='signed' with a key_id")
        self.form: Form | None = "signed" if key_id else None if signing == "auto" else signing
        self._is_open = signing == "auto" and not key_id
        self._secret = secret
        self._key_id = key_id
        self._old = TimestampSigner(secret)
        self._wall = wall
        self._new_nonce = new_nonce

    def headers(self, form: Form, method: str, path: str, body: bytes) -> dict[str, str]:
        """Return the headers that sign a call. With the digest of the body the server judges it before it reads the body."""
        if form == "old":
            return {"x-channelstream-secret": self._old.sign(path).decode()}
        now_s = int(self._wall())
        value = sign(self._key_id, self._secret, method, path, now_s, self._new_nonce(), body)
        return {"authorization": value, "content-digest": digest_of(body)}

    def other_form(self, form: Form, path: str, status: int, challenge: str) -> Form | None:
        """Return the form in which a refused call may be sent once more; None if it is refused for good.

        Args:
            form: that of the call.
            status: of the answer.
            challenge: its header WWW-Authenticate; empty if it has none.
        """
        if not self._is_open or status not in _REFUSALS or path == OPEN_PATH:
            return None
        knows_signed = SCHEME.lower() in challenge.lower()
        if form == "signed":
            return None if knows_signed or self.form == "signed" else "old"
        return "signed" if knows_signed and self.form == "old" else None

    def accepted(self, form: Form, path: str) -> None:
        """Note that the server has answered a call in this form."""
        if not self._is_open or path == OPEN_PATH or self.form == form:
            return
        self.form = form
        if form == "old":
            logger.warning(
                "the server does not know signatures of whole requests: calls are signed in the old form, which does not"
                " bind their bodies"
            )
