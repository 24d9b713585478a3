"""One thing after the other for each key: who asks first goes first."""

import asyncio
from collections import deque


class Locks:
    """A lock for each key. A key that nobody holds costs nothing, and is not remembered."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[asyncio.Future[None]] | None] = {}

    def __len__(self) -> int:
        """Return how many keys are held."""
        return len(self._waiting)

    def of(self, key: str) -> "Lock":
        """Return what holds a key, `async with`, after all who asked for it before have let go."""
        return Lock(self._waiting, key)

    def try_acquire(self, key: str) -> "Lock | None":
        """Hold a key at once, until the turn is let go; None where somebody holds it."""
        if key in self._waiting:
            return None
        self._waiting[key] = None
        return Lock(self._waiting, key)


class Lock:
    """One turn of one key."""

    __slots__ = ("_key", "_waiting")

    def __init__(self, waiting: "dict[str, deque[asyncio.Future[None]] | None]", key: str) -> None:
        self._waiting = waiting
        self._key = key

    async def __aenter__(self) -> None:
        await self.acquire()

    async def acquire(self) -> None:
        """Hold the key when it is this one's turn, until it is let go."""
        if self._key not in self._waiting:
            self._waiting[self._key] = None
            return
        queue = self._waiting[self._key]
        if queue is None:
            queue = self._waiting[self._key] = deque()
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # The key was handed over in the same moment.
                self.release()
            raise

    async def __aexit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Hand the key to the next who still waits."""
        queue = self._waiting[self._key]
        while queue:
            turn = queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        del self._waiting[self._key]
