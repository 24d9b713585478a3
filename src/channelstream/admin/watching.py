"""Pages that watch: how many, how long, and at which pace they are sent what is new."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from weakref import WeakSet

from channelstream.errors import Unavailable

FIGURES_S = 1.0
"""Interval of what a watching page receives."""
WATCHED_S = 60.0
"""How long a page may watch before it must reconnect, and so send its credentials again."""
WATCHERS = 32
"""Most pages that watch at the same time. More are refused with 503."""

Read = Callable[[], Awaitable[dict[str, Any]]]


class _Watcher:
    """One of the `WATCHERS` places. A weak set holds it, so it is free again even if its generator is never started."""

    __slots__ = ("__weakref__",)


class Watching:
    """The pages that watch this node.

    Args:
        stopped: set when the server stops, which ends all of them.
        steady: returns seconds of a clock that never jumps.
    """

    def __init__(self, stopped: asyncio.Event, steady: Callable[[], float]) -> None:
        self._stopped = stopped
        self._steady = steady
        self._watchers: WeakSet[_Watcher] = WeakSet()

    def watch(self, read: Read) -> AsyncIterator[dict[str, Any]]:
        """Yield what `read` returns, now and every second.

        Raises:
            Unavailable: too many pages are watching, or the server stops.
        """
        if len(self._watchers) >= WATCHERS or self._stopped.is_set():
            raise Unavailable("No more admin pages can watch now; try again later.", retry_after_s=5)
        # The place is taken here, not in the generator: many requests may arrive in one event loop turn.
        watcher = _Watcher()
        self._watchers.add(watcher)
        return self._watch(watcher, read)

    async def _watch(self, watcher: _Watcher, read: Read) -> AsyncIterator[dict[str, Any]]:
        try:
            end_s = self._steady() + WATCHED_S
            while (begun_s := self._steady()) < end_s:
                yield await read()
                if await self._has_stopped(pause_s(self._steady() - begun_s)):
                    return
        finally:
            self._watchers.discard(watcher)

    async def _has_stopped(self, within_s: float) -> bool:
        try:
            await asyncio.wait_for(self._stopped.wait(), within_s)
        except TimeoutError:
            return False
        return True


def pause_s(taken_s: float) -> float:
    """Return the time to the next reading, in seconds. One may take long, as where a node does not answer.

    A page that receives nothing for 3 s says so (`static/server.js`).
    """
    return max(FIGURES_S / 2, FIGURES_S - taken_s)
