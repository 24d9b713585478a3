"""What has arrived and was not handed out yet: bounded in events and bytes."""

import asyncio
from collections import deque
from collections.abc import Sequence

from channelstream_client.events import Event

MAX_EVENTS = 1_000
MAX_BYTES = 8 << 20
"""Length of the JSON that the waiting events came in; one list of items may go beyond either bound."""


class Inbox:
    """A queue between a stream and its reader; of one event loop."""

    def __init__(self) -> None:
        self._events: deque[tuple[Event, int]] = deque()
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

    def put(self, events: Sequence[Event], size_bytes: int) -> None:
        """Add the events of one list."""
        for number, event in enumerate(events):
            self._events.append((event, 0 if number else size_bytes))
        self._bytes += size_bytes if events else 0
        self._changed.set()

    def close(self, error: BaseException | None = None) -> None:
        """Nothing follows; the error is raised once, after what waits was taken."""
        if not self._is_closed:
            self._is_closed, self._error = True, error
            self._changed.set()

    def clear(self) -> None:
        """Drop what waits."""
        self._events.clear()
        self._bytes = 0

    async def take(self) -> Event | None:
        """The next event; None after the last. To cancel it loses nothing."""
        while not self._events:
            if self._is_closed:
                self._raise_once()
                return None
            self._changed.clear()
            await self._changed.wait()
        event, size_bytes = self._events.popleft()
        self._bytes -= size_bytes
        if not self.is_full:
            self._has_room.set()
        return event

    def _raise_once(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    async def wait_for_room(self) -> None:
        """Wait until it is no longer full."""
        while self.is_full:
            self._has_room.clear()
            await self._has_room.wait()
