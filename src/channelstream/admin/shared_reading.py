"""`SharedReading`: what all pages that ask at about the same time share."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")

AGE_S = 0.9
"""How old a reading may be that a page gets, in seconds: any number of pages ask the nodes about once a second."""


class SharedReading(Generic[T]):
    """The latest result of a read that takes too long for each page to make its own, such as a call of all nodes.

    Args:
        read: reads; one read runs at a time.
        steady: returns seconds of a clock that never jumps.
    """

    def __init__(self, read: Callable[[], Awaitable[T]], steady: Callable[[], float]) -> None:
        self._read = read
        self._steady = steady
        self._lock = asyncio.Lock()
        self._latest: tuple[float, T] | None = None

    async def get(self) -> T:
        """Return a result that is at most `AGE_S` old."""
        async with self._lock:
            if self._latest is None or self._steady() - self._latest[0] >= AGE_S:
                found = await self._read()
                self._latest = self._steady(), found
            return self._latest[1]
