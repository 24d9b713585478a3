"""Signs the requests that the client commands send with httpx."""

from collections.abc import Generator

import httpx

from channelstream.call_signing import CallSigner


class Signatures(httpx.Auth):
    """Signs requests to one server."""

    requires_request_body = True

    def __init__(self, url: str, signer: CallSigner) -> None:
        """Create what signs the requests of one client.

        Args:
            url: the address of the server; its path is a prefix that a proxy strips.
        """
        self._prefix = httpx.URL(url).raw_path.decode().rstrip("/")
        self._signer = signer

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        target = request.url.raw_path.decode().removeprefix(self._prefix)
        request.headers.update(self._signer.headers(request.method, target, request.content))
        yield request
