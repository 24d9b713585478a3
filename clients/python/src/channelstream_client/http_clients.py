"""The HTTP clients that carry calls: one for each process, or for each event loop, each with a bounded number of calls."""

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import httpx

CALLS_AT_ONCE = 100
"""Most calls that an HTTP client carries at once. Further ones wait in turn, as long as one may for a connection.

The pool of httpx has as many connections. A call that waits in it costs time for each other call and each connection:
with 1,000 calls at once 900 came to nothing, after 14 s of CPU.
"""


def _too_many(most: int, wait_s: float) -> httpx.PoolTimeout:
    return httpx.PoolTimeout(f"none of {most} calls ended within {wait_s:g} s")


class Slots:
    """Lets a bounded number of tasks of one event loop call at once; further ones wait in turn (`async with`)."""

    def __init__(self, most: int, wait_s: float) -> None:
        self._most = most
        self._wait_s = wait_s
        self._free = asyncio.Semaphore(most)

    async def __aenter__(self) -> None:
        """Wait for a slot.

        Raises:
            httpx.PoolTimeout: none was free in time.
        """
        try:
            async with asyncio.timeout(self._wait_s):
                await self._free.acquire()
        except TimeoutError:
            raise _too_many(self._most, self._wait_s) from None

    async def __aexit__(self, *_: object) -> None:
        self._free.release()


@dataclass(frozen=True, slots=True)
class _OfProcess:
    http: httpx.Client
    slots: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(CALLS_AT_ONCE))


class ProcessClients:
    """Creates an `httpx.Client` for each process that calls.

    A forked child that used the connections of its parent would read answers to calls of its parent and its siblings.
    """

    def __init__(self, make: Callable[[], httpx.Client], wait_s: float) -> None:
        """Create the client of this process.

        Args:
            wait_s: how long a call may wait until fewer than `CALLS_AT_ONCE` are under way.
        """
        self._make = make
        self._wait_s = wait_s
        self._is_closed = False
        # What the parent had stays in a child, unused: closing it could wait for a lock that a thread of the parent had.
        self._clients = {os.getpid(): _OfProcess(make())}

    def request(self, method: str, url: str, *, content: bytes, headers: Mapping[str, str]) -> httpx.Response:
        """Send a request and return the answer.

        Raises:
            httpx.HTTPError: there is none. A `PoolTimeout` means that too many calls were under way.
        """
        of_process = self._here()
        if not of_process.slots.acquire(timeout=self._wait_s):
            raise _too_many(CALLS_AT_ONCE, self._wait_s)
        try:
            return of_process.http.request(method, url, content=content, headers=headers)
        finally:
            of_process.slots.release()

    def _here(self) -> _OfProcess:
        if self._is_closed:
            raise RuntimeError("this Channelstream is closed")
        pid = os.getpid()
        if pid not in self._clients:
            return self._clients.setdefault(pid, _OfProcess(self._make()))
        return self._clients[pid]

    def close(self) -> None:
        """Close the client of this process."""
        self._is_closed = True
        if os.getpid() in self._clients:
            self._clients[os.getpid()].http.close()


@dataclass(frozen=True, slots=True)
class _OfLoop:
    http: httpx.AsyncClient
    slots: Slots


class LoopClients:
    """Creates an `httpx.AsyncClient` for each event loop that calls, and closes it at the end of the loop at the latest.

    Connections belong to the loop that opened them.
    """

    def __init__(self, make: Callable[[], httpx.AsyncClient], wait_s: float) -> None:
        """Create none yet.

        Args:
            wait_s: as for `ProcessClients`.
        """
        self._make = make
        self._wait_s = wait_s
        self._holders: dict[asyncio.AbstractEventLoop, AsyncGenerator[_OfLoop, None]] = {}
        self._clients: dict[asyncio.AbstractEventLoop, _OfLoop] = {}

    async def request(
        self, method: str, url: str, *, content: bytes, headers: Mapping[str, str]
    ) -> httpx.Response:
        """Send a request by the client of the running loop, and return the answer; see `ProcessClients.request`."""
        of_loop = await self._here()
        async with of_loop.slots:
            return await of_loop.http.request(method, url, content=content, headers=headers)

    async def _here(self) -> _OfLoop:
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

    async def _hold_open(self, loop: asyncio.AbstractEventLoop) -> AsyncGenerator[_OfLoop, None]:
        """Hold a client open. At its end `asyncio.run` closes asynchronous generators, and so the client of its loop."""
        of_loop = _OfLoop(self._make(), Slots(CALLS_AT_ONCE, self._wait_s))
        try:
            yield of_loop
        finally:
            self._clients.pop(loop, None)
            self._holders.pop(loop, None)
            await of_loop.http.aclose()

    def _discard_closed(self) -> None:
        """Discard clients of loops that were closed without closing their asynchronous generators."""
        # Of a list, as loops of other threads may add theirs meanwhile.
        for loop in [loop for loop in list(self._clients) if loop.is_closed()]:
            with suppress(KeyError):
                del self._clients[loop], self._holders[loop]
