"""One HTTP client for each event loop, because connections belong to the loop that opened them."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress

import httpx


class LoopClients:
    """Creates an `httpx.AsyncClient` for each loop that needs one, and closes it at the end of the loop at the latest."""

    def __init__(self, make: Callable[[], httpx.AsyncClient]) -> None:
        self._make = make
        self._holders: dict[asyncio.AbstractEventLoop, AsyncGenerator[httpx.AsyncClient, None]] = {}
        self._clients: dict[asyncio.AbstractEventLoop, httpx.AsyncClient] = {}

    async def get(self) -> httpx.AsyncClient:
        """Return the client of the running loop."""
        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            self._discard_closed()
            holder = self._hold_open(loop)
            self._clients[loop] = await anext(holder)
            self._holders[loop] = holder
        return self._clients[loop]

    async def close(self) -> None:
        """Close the client of the running loop. Clients of other loops close with their loops."""
        holder = self._holders.pop(asyncio.get_running_loop(), None)
        if holder is not None:
            await holder.aclose()

    async def _hold_open(self, loop: asyncio.AbstractEventLoop) -> AsyncGenerator[httpx.AsyncClient, None]:
        """Hold a client open. At its end `asyncio.run` closes asynchronous generators, and so the client of its loop."""
        client = self._make()
        try:
            yield client
        finally:
            self._clients.pop(loop, None)
            self._holders.pop(loop, None)
            await client.aclose()

    def _discard_closed(self) -> None:
        """Discard clients of loops that were closed without closing their asynchronous generators."""
        for loop in [loop for loop in self._clients if loop.is_closed()]:
            with suppress(KeyError):
                del self._clients[loop], self._holders[loop]
