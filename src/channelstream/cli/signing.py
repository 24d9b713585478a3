"""The signatures of the client commands, as headers and for httpx."""

import secrets
import time
from collections.abc import Generator

import httpx
from itsdangerous import TimestampSigner

from channelstream.core.request_signing import sign

NONCE_BYTES = 16


def old_headers(secret: str, path: str) -> dict[str, str]:
    """Return the headers of an old signature. The second one is not needed: older clients send it."""
    token = TimestampSigner(secret).sign(path).decode()
    return {"x-channelstream-secret": token, "x-channelstream-endpoint": path}


def signed_headers(secret: str, method: str, target: str, body: bytes) -> dict[str, str]:
    """Return the header that signs a request as a whole.

    Args:
        target: path and query as they are sent, without the prefix that a proxy strips.
    """
    nonce = secrets.token_urlsafe(NONCE_BYTES)
    return {"authorization": sign("", secret, method, target.encode(), int(time.time()), nonce, body)}


class Signatures(httpx.Auth):
    """Signs requests to one server."""

    requires_request_body = True

    def __init__(self, url: str, secret: str, is_old: bool) -> None:
        """Create it.

        Args:
            url: the address of the server; its path is a prefix that a proxy strips.
            secret: the server's option `secret`.
            is_old: sign the path only, as servers before 1.0 want it.
        """
        self._prefix = httpx.URL(url).raw_path.decode().rstrip("/")
        self._secret = secret
        self._is_old = is_old

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        target = request.url.raw_path.decode().removeprefix(self._prefix)
        if self._is_old:
            request.headers.update(old_headers(self._secret, target.partition("?")[0]))
        else:
            request.headers.update(signed_headers(self._secret, request.method, target, request.content))
        yield request
