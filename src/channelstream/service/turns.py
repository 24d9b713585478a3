"""Bounds how many streams a node opens or catches up at once, so that calls of the API do not wait behind them.

When another node stops, thousands of its clients may come back to this one in a second. Each takes about six calls of Redis,
which answers the calls of a node in the order in which they were sent: without a bound, a publish waited for seconds behind
thousands of them (docs/performance.md). With it, a publish waits behind a few. The price is CPU: fewer calls share a packet.

A turn is for work that keeps Redis busy. A shard that has just gone out of reach, or whose slot moves, answers no call for
seconds, and streams that need only the other shards must not wait for it. So a turn ends after `LONGEST_S`, done or not.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

LONGEST_S = 0.25
"""How long a turn lasts at most, in seconds: many times as long as the calls of a stream take."""


class Turns:
    """Lets so many have a turn at once; the others wait in the order in which they asked.

    What waits is bounded by those who ask: each has a socket (`max_connections`).
    """

    def __init__(self, at_once: int) -> None:
        self._free = asyncio.Semaphore(at_once)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator["Turn"]:
        """Wait for a turn, which ends with the context or after `LONGEST_S` at the latest."""
        await self._free.acquire()
        turn = Turn(self._free)
        timer = asyncio.get_running_loop().call_later(LONGEST_S, turn.end)
        try:
            yield turn
        finally:
            timer.cancel()
            turn.end()


class Turn:
    """One of the turns that are taken."""

    __slots__ = ("_free", "_has_ended")

    def __init__(self, free: asyncio.Semaphore) -> None:
        self._free = free
        self._has_ended = False

    def end(self) -> None:
        """Let the next one begin; nothing if it has ended."""
        if not self._has_ended:
            self._has_ended = True
            self._free.release()
