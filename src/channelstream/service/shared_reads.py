"""Reads that several callers share: of those that ask while a read is in progress, all wait for the next one.

A read that has begun may miss what a caller has just changed, so nobody joins it. The next one begins after all that wait
for it have asked. So very many clients that join a channel at once, and are each sent who is in it, cost a few reads.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from channelstream.shielded import result_of, retrieve

T = TypeVar("T")


class SharedReads(Generic[T]):
    """Reads by name: of each at most one in progress, and one that follows."""

    def __init__(self, read: Callable[[str], Awaitable[T]]) -> None:
        self._read = read
        self._running: dict[str, asyncio.Task[T]] = {}
        self._following: dict[str, asyncio.Task[T]] = {}

    def __len__(self) -> int:
        """Return how many reads are in progress, or follow."""
        return len(self._running) + len(self._following)

    async def of(self, name: str) -> T:
        """Return what a read returns that begins after this call; callers do not change it.

        Raises:
            Exception: what the read has raised.
        """
        following = self._following.get(name)
        if following is None:
            work = self._read_after(name, self._running.get(name))
            following = self._following[name] = asyncio.get_running_loop().create_task(work)
            following.add_done_callback(retrieve)
        try:
            return await result_of(following)
        finally:
            del following

    async def _read_after(self, name: str, before: asyncio.Task[T] | None) -> T:
        if before is not None:
            await asyncio.wait((before,))
        own = self._running[name] = self._following.pop(name)
        try:
            return await self._read(name)
        finally:
            if self._running.get(name) is own:
                del self._running[name]
            del own
