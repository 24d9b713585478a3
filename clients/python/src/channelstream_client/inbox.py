"""The queue of received events that the application has not read yet, bounded in events and bytes."""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Generic, TypeVar

MAX_EVENTS = 1_000
MAX_BYTES = 8 << 20
"""Bound of the JSON of the queued events. One list of items may exceed either bound."""


E = TypeVar("E")


class Inbox(Generic[E]):
    """A queue between a stream and its reader, for one event loop. Each event is in it with its position."""

    def __init__(self) -> None:
        self._events: deque[tuple[E, str, int]] = deque()
        self._bytes = 0
        self._is_closed = False
        self._error: BaseException | None = None
        self._changed = asyncio.Event()
        self._has_room = asyncio.Event()

    @property
    def is_empty(self) -> bool:
        return not self._events

    @property
    def is_full(self) -> bool:
        return len(self._events) >= MAX_EVENTS or self._bytes >= MAX_BYTES

    def put(self, events: Sequence[tuple[E, str]], size_bytes: int) -> None:
        """Add the events of one list."""
        for number, (event, position) in enumerate(events):
            self._events.append((event, position, 0 if number else size_bytes))
        self._bytes += size_bytes if events else 0
        self._changed.set()

    def close(self, error: BaseException | None = None) -> None:
        """Mark the end. `take` raises the error once, after the queued events."""
        if not self._is_closed:
            self._is_closed, self._error = True, error
            self._changed.set()

    def clear(self) -> None:
        """Discard the queued events."""
        self._events.clear()
        self._bytes = 0

    async def take(self) -> tuple[E, str] | None:
        """Return the next event and its position; None after the last one. Cancelling it loses no event."""
        while not self._events:
            if self._is_closed:
                self._raise_once()
                return None
            self._changed.clear()
            await self._changed.wait()
        event, position, size_bytes = self._events.popleft()
        self._bytes -= size_bytes
        if not self.is_full:
            self._has_room.set()
        return event, position

    def _raise_once(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    async def wait_for_room(self) -> None:
        """Wait until the queue is no longer full."""
        while self.is_full:
            self._has_room.clear()
            await self._has_room.wait()
