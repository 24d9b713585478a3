"""One HTTP client for each event loop: connections belong to the loop that opened them."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress

import httpx


class LoopClients:
    """Makes an `httpx.AsyncClient` for each loop that asks, and closes it when that loop ends, at the latest."""

    def __init__(self, make: Callable[[], httpx.AsyncClient]) -> None:
        self._make = make
        self._holders: dict[asyncio.AbstractEventLoop, AsyncGenerator[httpx.AsyncClient, None]] = {}
        self._clients: dict[asyncio.AbstractEventLoop, httpx.AsyncClient] = {}

    async def get(self) -> httpx.AsyncClient:
        """The client of the running loop."""
        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            self._discard_closed()
            holder = self._hold_open(loop)
            self._clients[loop] = await anext(holder)
            self._holders[loop] = holder
        return self._clients[loop]

    async def close(self) -> None:
        """Close the client of the running loop; those of others close with their loops."""
        holder = self._holders.pop(asyncio.get_running_loop(), None)
        if holder is not None:
            await holder.aclose()

    async def _hold_open(self, loop: asyncio.AbstractEventLoop) -> AsyncGenerator[httpx.AsyncClient, None]:
        """Hold a client open. A loop that ends closes its asynchronous generators (`asyncio.run` does), so this one too."""
        client = self._make()
        try:
            yield client
        finally:
            self._clients.pop(loop, None)
            self._holders.pop(loop, None)
            await client.aclose()

    def _discard_closed(self) -> None:
        """Drop clients of loops that were closed without a word."""
        for loop in [loop for loop in self._clients if loop.is_closed()]:
            with suppress(KeyError):
                del self._clients[loop], self._holders[loop]
