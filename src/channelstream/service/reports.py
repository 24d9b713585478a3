"""The facts that a node makes itself, on their way to the outbox: what its clients send, and which messages are accepted.

They are appended in the background, so no caller waits for them. A node that is killed loses those of the last moment.
"""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable
from itertools import islice

from channelstream.apps.wanted_facts import WantedFacts, app_of
from channelstream.core.events import Event, Message
from channelstream.core.facts import CacheMissed, ClientEvent, Fact, MessageAccepted
from channelstream.engines.base import Clock
from channelstream.engines.outbox import Outbox
from channelstream.errors import Unavailable

MOST_WAITING = 20_000
"""Most facts of an application that wait while the engine is out of reach; further ones are dropped, and counted."""
MOST_CHARACTERS = 16 << 20
"""From so many characters of data of client events on, further facts are dropped as well."""
TOTAL_WAITING = 80_000
"""Facts of all applications from which on one may have no more than an equal share: so at most twice as many wait."""
TOTAL_CHARACTERS = 64 << 20
"""Characters of data of all applications from which on one may have no more than an equal share."""
AT_ONCE = 500
"""Facts that are appended at once."""
RETRY_S = 1.0
"""Time between two attempts while the engine is out of reach, in seconds."""

logger = logging.getLogger(__name__)


class Reports:
    """The facts of one node that wait to be appended.

    Attributes:
        is_used: some facts are wanted.
        dropped: how many were dropped since too many of their application waited, or of all.
    """

    def __init__(self, outbox: Outbox, wanted: WantedFacts, new_id: Callable[[], str], clock: Clock) -> None:
        self.is_used = bool(wanted)
        self.dropped = 0
        self._outbox = outbox
        self._wanted = wanted
        self._new_id = new_id
        self._clock = clock
        self._waiting: deque[Fact] = deque()
        self._counts: Counter[str] = Counter()
        self._characters: Counter[str] = Counter()
        self._task: asyncio.Task[None] | None = None

    def client_event(
        self, channel: str, event: str, data: str, socket: str | None, user: str | None = None
    ) -> None:
        """Report that a client has sent an event to a channel.

        Args:
            channel: its key.
            data: as text.
            socket: the public id of the client's connection.
            user: the key of the member that it is.
        """
        if self._wanted.wants("client_event", channel):
            new_id, at_ms = self._new_id(), self._now_ms()
            self._add(
                ClientEvent(
                    id=new_id, at_ms=at_ms, channel=channel, event=event, data=data, socket=socket, user=user
                )
            )

    def cache_missed(self, channel: str) -> None:
        """Report that a client has found no last event in a channel that keeps it, given by its key."""
        if self._wanted.wants("cache_miss", channel):
            self._add(CacheMissed(id=self._new_id(), at_ms=self._now_ms(), channel=channel))

    def accepted(self, event: Event) -> None:
        """Report that a message was accepted in a channel."""
        channel = event.channel
        if isinstance(event, Message) and channel is not None and self._wanted.wants("message", channel):
            new_id, at_ms = self._new_id(), self._now_ms()
            self._add(
                MessageAccepted(id=new_id, at_ms=at_ms, channel=channel, uuid=event.uuid, user=event.user)
            )

    def _now_ms(self) -> int:
        return round(self._clock.wall() * 1000)

    def _add(self, fact: Fact) -> None:
        app_id = app_of(fact)
        if not self._has_room(app_id):
            self.dropped += 1
            return
        self._waiting.append(fact)
        self._counts[app_id] += 1
        self._characters[app_id] += _characters_of(fact)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._append())

    def _has_room(self, app_id: str) -> bool:
        count, characters = self._counts[app_id], self._characters[app_id]
        if count >= MOST_WAITING or characters >= MOST_CHARACTERS:
            return False
        apps = len(self._wanted.apps)
        if count < TOTAL_WAITING // apps and characters < TOTAL_CHARACTERS // apps:
            return True
        return len(self._waiting) < TOTAL_WAITING and self._characters.total() < TOTAL_CHARACTERS

    async def _append(self) -> None:
        """Append what waits, until nothing does."""
        while self._waiting:
            batch = list(islice(self._waiting, AT_ONCE))
            try:
                await self._outbox.append(batch)
            except Unavailable:
                await asyncio.sleep(RETRY_S)
                continue
            except Exception:
                # A bug: these facts are lost, so that later ones are not kept from the outbox.
                logger.exception("facts for webhooks could not be kept")
            for fact in batch:
                self._waiting.popleft()
                self._counts[app_of(fact)] -= 1
                self._characters[app_of(fact)] -= _characters_of(fact)
        self._task = None

    async def settle(self, within_s: float) -> bool:
        """Wait until nothing waits, for a time at most; return whether nothing does."""
        if self._task is not None:
            await asyncio.wait((self._task,), timeout=within_s)
        return self._task is None

    async def close(self, within_s: float) -> None:
        """Settle; what waits then is lost."""
        await self.settle(within_s)
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            logger.warning("webhooks: events of the last moment are lost: %d", len(self._waiting))


def _characters_of(fact: Fact) -> int:
    return len(fact.data) if isinstance(fact, ClientEvent) else 0
