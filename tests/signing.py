"""Signs whole requests as the documents say, with the standard library only."""

import hmac
import time
from hashlib import sha256
from uuid import uuid4


def signature(
    secret: str,
    method: str,
    target: str,
    body: bytes = b"",
    key_id: str = "",
    ahead_s: int = 0,
    nonce: str = "",
) -> dict[str, str]:
    """Return the header of a request, signed so many seconds in the future; without a nonce, with a new one."""
    nonce, signed_s = nonce or uuid4().hex, int(time.time()) + ahead_s
    text = f"v1\n{method}\n{target}\n{signed_s}\n{nonce}\n{sha256(body).hexdigest()}"
    mac = hmac.new(secret.encode(), text.encode(), sha256).hexdigest()
    return {"authorization": f"CS-HMAC-SHA256 key={key_id}, ts={signed_s}, nonce={nonce}, sig={mac}"}
