"""Much work, done in many short turns of the event loop, so that no other request or stream waits for it."""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

TURN_S = 0.002
"""Longest stretch of work until others have their turn, in seconds; a step more may be added to it."""
STEP = 50
"""Items between two looks at the clock."""

S = TypeVar("S")
T = TypeVar("T")


async def to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Do what must not be left half done: it goes on where whoever waits for it is cancelled."""
    await asyncio.shield(asyncio.ensure_future(work))


class Slices:
    """The turns of one piece of work."""

    __slots__ = ("_now", "_until")

    def __init__(self, now: Callable[[], float]) -> None:
        """Begin the first turn.

        Args:
            now: a clock that never jumps, in seconds.
        """
        self._now = now
        self._until = now() + TURN_S

    @property
    def is_over(self) -> bool:
        """Whether this turn has lasted long enough."""
        return self._now() >= self._until

    async def due(self) -> None:
        """Let others have their turn if this one has lasted long enough."""
        if self.is_over:
            await self.next()

    async def next(self) -> None:
        """Let others have their turn."""
        await asyncio.sleep(0)
        self._until = self._now() + TURN_S

    async def drop(self, items: list[T]) -> None:
        """Free the items of a list, which takes its time, too."""
        while items:
            del items[-10 * STEP :]
            await self.due()

    async def each(self, items: Sequence[S], do: Callable[[S], T], step: int = STEP) -> list[T]:
        """Return what `do` makes of every item.

        Args:
            step: items between two looks at the clock; fewer where one may take long.
        """
        if len(items) <= step:
            return [do(item) for item in items]
        done: list[T] = []
        for start in range(0, len(items), step):
            done += map(do, items[start : start + step])
            await self.due()
        return done


class TurnQueue:
    """Small pieces of work for many clients: a few in each turn of the loop, the others in the next turns, in order.

    A loop calls in one turn the protocol of every socket that is ready, and would do the work of all of them in that turn.
    """

    __slots__ = ("_at_once", "_done", "_waiting")

    def __init__(self, at_once: int) -> None:
        """Create an empty queue.

        Args:
            at_once: pieces done in one turn.
        """
        self._at_once = at_once
        self._waiting: deque[Callable[[], None]] = deque()
        self._done = 0  # Pieces done in this turn.

    def has_room(self) -> bool:
        """Return whether the caller may do one more piece in this turn, and count it."""
        self._wake()
        if self._done >= self._at_once or self._waiting:
            return False
        self._done += 1
        return True

    def put(self, work: Callable[[], None]) -> None:
        """Do a piece of work in one of the next turns, after those that wait."""
        self._wake()
        self._waiting.append(work)

    def run(self, work: Callable[[], None]) -> None:
        """Do a piece of work now if this turn has room for it, else in one of the next turns."""
        if self.has_room():
            work()
        else:
            self.put(work)

    def _wake(self) -> None:
        if not self._done and not self._waiting:
            asyncio.get_running_loop().call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._done = min(self._at_once, len(self._waiting))
        if self._done:
            asyncio.get_running_loop().call_soon(self._next_turn)
        for _ in range(self._done):
            self._waiting.popleft()()
