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
    """

    def __init__(self, stopped: asyncio.Event) -> None:
        self._stopped = stopped
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
            for _ in range(int(WATCHED_S / FIGURES_S)):
                yield await read()
                if await self._has_stopped():
                    return
        finally:
            self._watchers.discard(watcher)

    async def _has_stopped(self) -> bool:
        try:
            await asyncio.wait_for(self._stopped.wait(), FIGURES_S)
        except TimeoutError:
            return False
        return True
