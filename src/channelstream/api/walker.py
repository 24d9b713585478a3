"""Runs the slow reads of long bodies in threads, one at a time."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from channelstream.errors import Unavailable

LONG_BYTES = 16_384
"""Length from which on a body is read in a thread: a shorter one takes up to 4 ms (measured)."""
WAITING = 16
"""Most long bodies that wait or are read; further calls are refused with 503. Only signed calls may be so long."""

T = TypeVar("T")


class Walker:
    """Reads bodies that msgspec refuses field by field, which takes 0.25 s for each MB; one for all calls of the API.

    One at a time: each thread that computes can delay every turn of the event loop by 5 ms, for the interpreter lock.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._waiting = 0

    async def run(self, read: Callable[..., T], body: bytes, *arguments: Any) -> T:
        """Return `read(body, *arguments)`, from the thread if the body is long.

        Raises:
            Unavailable: too many others wait.
        """
        if len(body) < LONG_BYTES:
            return read(body, *arguments)
        if self._waiting >= WAITING:
            raise Unavailable(
                "Too many long requests that break their schema are being read; try again later."
            )
        self._waiting += 1
        try:
            async with self._lock:
                return await asyncio.to_thread(read, body, *arguments)
        finally:
            self._waiting -= 1
