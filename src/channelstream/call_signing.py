"""Signs the calls of this distribution's own programs: the client commands, the demo and the API explorer."""

import secrets
import time
from collections.abc import Callable

from itsdangerous import TimestampSigner

from channelstream.core.request_signing import digest_header, sign

NONCE_BYTES = 16


class CallSigner:
    """Signs calls with the secret of one application, or with one of its keys."""

    def __init__(self, secret: Callable[[], str], is_old: bool, key_id: str = "") -> None:
        """Create a signer.

        Args:
            secret: returns the secret, which may change.
            is_old: sign only the path, as servers before 1.0 want it, and those whose `request_signing` is `old`.
            key_id: that of a key, which signs whole requests only; empty for the secret of the application.
        """
        self._secret = secret
        self._is_old = is_old
        self._key_id = key_id

    def headers(self, method: str, target: str, body: bytes) -> dict[str, str]:
        """Return the headers of a signed call.

        Args:
            target: path and query as they are sent, without the prefix that a proxy strips.
        """
        if self._is_old:
            return old_headers(self._secret(), target.partition("?")[0])
        nonce, signed_s = secrets.token_urlsafe(NONCE_BYTES), int(time.time())
        headers = {
            "authorization": sign(
                self._key_id, self._secret(), method, target.encode(), signed_s, nonce, body
            )
        }
        return headers | {"content-digest": digest_header(body)} if body else headers


def old_headers(secret: str, path: str) -> dict[str, str]:
    """Return the headers of an old signature. The second one is not needed: older clients send it."""
    token = TimestampSigner(secret).sign(path).decode()
    return {"x-channelstream-secret": token, "x-channelstream-endpoint": path}
