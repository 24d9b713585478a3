"""How an application calls the push server."""

import asyncio
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from channelstream.call_signing import CallSigner
from channelstream.demo.input import Refused

if TYPE_CHECKING:
    import httpx


class PushServer:
    """Calls the push server as any application does: JSON over HTTP, signed with the secret."""

    def __init__(self, connect: "Callable[[], httpx.AsyncClient]", signer: CallSigner) -> None:
        """Create a caller that has sent nothing yet.

        Args:
            connect: returns the HTTP client; called for the first request, in a thread, since it imports a library.
        """
        self._connect = connect
        self._http: httpx.AsyncClient | None = None
        self._connecting = asyncio.Lock()
        self._signer = signer

    async def call(self, method: str, path: str, body: Any) -> Any:
        """Send a request and return the JSON answer.

        Raises:
            Refused: the server refused it. The body of a 422 lists the faults, field by field.
        """
        content = json.dumps(body).encode()
        headers = self._signer.headers(method, path, content)
        http = await self._client()
        response = await http.request(method, path, content=content, headers=headers)
        if not response.is_success:
            raise Refused(409 if response.status_code == 422 else 502, "The push server refused that.")
        return response.json()

    async def _client(self) -> "httpx.AsyncClient":
        async with self._connecting:  # Two first calls at once make one client.
            if self._http is None:
                self._http = await asyncio.to_thread(self._connect)
            return self._http
