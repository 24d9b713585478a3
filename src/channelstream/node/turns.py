"""One thing after the other for each key: who asks first goes first."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """A lock for each key. A key that nobody holds costs nothing, and is not remembered."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    def __len__(self) -> int:
        """Return how many keys are held."""
        return len(self._waiting)

    @asynccontextmanager
    async def of(self, key: str) -> AsyncIterator[None]:
        """Hold a key, after all who asked for it before have let go."""
        if key in self._waiting:
            await self._turn(key)
        else:
            self._waiting[key] = deque()
        try:
            yield
        finally:
            self._let_go(key)

    async def _turn(self, key: str) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[key].append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # The key was handed over in the same moment.
                self._let_go(key)
            raise

    def _let_go(self, key: str) -> None:
        """Hand the key to the next who still waits."""
        waiting = self._waiting[key]
        while waiting:
            turn = waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        del self._waiting[key]
