"""Splits long work into short event loop turns, so that no other request or stream waits for it."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from itertools import islice
from typing import TypeVar

TURN_S = 0.002
"""Longest work in one loop turn, in seconds, plus the last step."""
STEP = 50
"""Items between two looks at the clock."""
SET_STEP = 2_000
"""Texts that are put into a set between two looks at the clock: up to 1 ms, as a set that grows is copied (measured)."""
MANY = 100
"""Items from which on work gets a loop turn of its own (`turn_for`): they take about 0.5 ms."""

S = TypeVar("S")
T = TypeVar("T")


async def turn_for(items: int) -> None:
    """Let other work run before, or after, a piece of work on many items.

    For work that must not be split. Engines outside of the process make their callers wait at these places anyway.
    """
    if items >= MANY:
        await asyncio.sleep(0)


async def in_turns(items: Sequence[T], size: int) -> AsyncIterator[Sequence[T]]:
    """Yield the items in parts of at most `size`, each in a loop turn of its own."""
    for start in range(0, len(items), size):
        if start:
            await asyncio.sleep(0)
        yield items[start : start + size]


class Slices:
    """The loop turns of one long piece of work."""

    __slots__ = ("_now", "_until")

    def __init__(self, now: Callable[[], float]) -> None:
        """Start the first turn.

        Args:
            now: a clock that never jumps, in seconds.
        """
        self._now = now
        self._until = now() + TURN_S

    @property
    def is_over(self) -> bool:
        """Whether this turn has lasted for `TURN_S`."""
        return self._now() >= self._until

    async def due(self) -> None:
        """Let other work run if this turn has lasted for `TURN_S`."""
        if self.is_over:
            await self.next()

    async def next(self) -> None:
        """Let other work run, and start the next turn."""
        await asyncio.sleep(0)
        self._until = self._now() + TURN_S

    async def drop(self, items: list[T]) -> None:
        """Empty a list in slices: to free many objects takes time, too."""
        while items:
            del items[-10 * STEP :]
            await self.due()

    async def each(self, items: Sequence[S], do: Callable[[S], T], step: int = STEP) -> list[T]:
        """Return the result of `do` for every item.

        Args:
            step: items between two looks at the clock; fewer where one may take long.
        """
        if len(items) <= step:
            return [do(item) for item in items]
        done: list[T] = []
        for start in range(0, len(items), step):
            done += map(do, items[start : start + step])
            if self.is_over:
                await self.next()
        return done

    async def set_of(self, items: Iterable[T]) -> frozenset[T]:
        """Return a set of very many items. The turn that copies it, 2 ms for 100,000 (measured), does nothing else."""
        found, rest = set[T](), iter(items)
        while part := list(islice(rest, SET_STEP)):
            found.update(part)
            await self.due()
        await self.next()
        result = frozenset(found)
        await self.next()
        return result


class TurnQueue:
    """Runs small pieces of work in order, a few in each loop turn.

    The loop calls the protocols of all sockets that are ready in one turn. If thousands of clients disconnect at
    once, their work would be one very long turn.
    """

    __slots__ = ("_at_once", "_done", "_waiting")

    def __init__(self, at_once: int) -> None:
        """Create an empty queue.

        Args:
            at_once: most pieces in one loop turn.
        """
        self._at_once = at_once
        self._waiting: deque[Callable[[], None]] = deque()
        self._done = 0  # Pieces done in this turn.

    def has_room(self) -> bool:
        """Return whether the caller may run one more piece in this turn; if so, it is counted."""
        self._wake()
        if self._done >= self._at_once or self._waiting:
            return False
        self._done += 1
        return True

    def put(self, work: Callable[[], None]) -> None:
        """Run a piece of work in a later turn, after those that wait."""
        self._wake()
        self._waiting.append(work)

    def run(self, work: Callable[[], None]) -> None:
        """Run a piece of work now if this turn has room for it, else in a later turn."""
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
