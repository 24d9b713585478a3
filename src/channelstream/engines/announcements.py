"""Announces changed states of users to their channels, in several loop turns if these are very many.

In between, whatever changes the state again, or the channels of the user, first announces the rest. So every channel
receives the events of this user in the same order as if all were announced in one turn. If another user joins a channel
in between, that channel may be sent a list of users with the new state before the change.
"""

import asyncio
from collections.abc import Callable, Iterator

from channelstream.core.events import Event
from channelstream.engines.base import Clock
from channelstream.slices import Slices


class Announcements:
    """The changed states that not all channels have received yet.

    Attributes:
        waiting: the rest of the events of each user.
    """

    def __init__(self, clock: Clock, accept: Callable[[Event], None]) -> None:
        self.waiting: dict[str, Iterator[Event]] = {}
        self._clock = clock
        self._accept = accept

    def next(self, user: str) -> bool:
        """Announce the state of a user to as many channels as one turn of the event loop has time for.

        Returns:
            Whether there may be more of them.
        """
        events = self.waiting.get(user)
        if events is None:
            return False
        slices = Slices(self._clock.steady)
        for event in events:
            self._accept(event)
            if slices.is_over:
                return True
        self.waiting.pop(user, None)
        return False

    def rest(self, user: str) -> None:
        """Announce the state of a user to all channels that have not received it, in one turn."""
        if user in self.waiting:
            for event in self.waiting.pop(user):
                self._accept(event)

    async def rest_in_turns(self, user: str) -> None:
        """Announce the state of a user to all channels that have not received it, from the next turn on."""
        has_more = True
        while has_more:
            await asyncio.sleep(0)
            has_more = self.next(user)

    def discard(self) -> None:
        """Announce nothing any more: the changes themselves are taken back."""
        self.waiting.clear()
