"""The HTTP clients that carry calls: one for each process, or for each event loop."""

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress

import httpx


class ProcessClients:
    """Creates an `httpx.Client` for each process that calls.

    A forked child that used the connections of its parent would read answers to calls of its parent and its siblings.
    """

    def __init__(self, make: Callable[[], httpx.Client]) -> None:
        """Create the client of this process."""
        self._make = make
        self._is_closed = False
        # What the parent had stays in a child, unused: closing it could wait for a lock that a thread of the parent had.
        self._clients = {os.getpid(): make()}

    def request(self, method: str, url: str, *, content: bytes, headers: Mapping[str, str]) -> httpx.Response:
        """Send a request and return the answer.

        Raises:
            httpx.HTTPError: there is none.
        """
        return self._here().request(method, url, content=content, headers=headers)

    def _here(self) -> httpx.Client:
        if self._is_closed:
            raise RuntimeError("this Channelstream is closed")
        pid = os.getpid()
        if pid not in self._clients:
            return self._clients.setdefault(pid, self._make())
        return self._clients[pid]

    def close(self) -> None:
        """Close the client of this process."""
        self._is_closed = True
        if os.getpid() in self._clients:
            self._clients[os.getpid()].close()


class LoopClients:
    """Creates an `httpx.AsyncClient` for each event loop that calls, and closes it at the end of the loop at the latest.

    Connections belong to the loop that opened them.
    """

    def __init__(self, make: Callable[[], httpx.AsyncClient]) -> None:
        """Create none yet."""
        self._make = make
        self._holders: dict[asyncio.AbstractEventLoop, AsyncGenerator[httpx.AsyncClient, None]] = {}
        self._clients: dict[asyncio.AbstractEventLoop, httpx.AsyncClient] = {}

    async def request(
        self, method: str, url: str, *, content: bytes, headers: Mapping[str, str]
    ) -> httpx.Response:
        """Send a request by the client of the running loop, and return the answer; see `ProcessClients.request`."""
        client = await self._here()
        return await client.request(method, url, content=content, headers=headers)

    async def _here(self) -> httpx.AsyncClient:
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
