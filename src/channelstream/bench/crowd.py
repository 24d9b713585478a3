"""Clients that come back after their server has stopped, and check what they receive.

They follow the reconnect policy of docs/resume.md, and each must receive every message once and in order.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from channelstream.bench.application import Application
from channelstream.bench.load import BenchFailed
from channelstream.bench.progress import Progress
from channelstream.bench.results import Returned
from channelstream.bench.subscriber import Shared, Subscriber
from channelstream.bench.wire import Wire
from channelstream_client.protocol import Item

CHANNEL = "storm"
MESSAGES = 10
"""Messages of one call, which does not wait for their deliveries."""
DEADLINE_S = 600.0
"""Longest wait for all clients; on a machine with other work 15,000 need some minutes."""
POLL_S = 0.02


@dataclass
class Tally:
    """What all users together have received.

    Attributes:
        lost: `resumed` items that report a loss.
        missing: messages that were skipped.
        repeated: messages that were received twice.
    """

    lost: int = 0
    missing: int = 0
    repeated: int = 0


@dataclass(slots=True)
class User:
    """Checks what one user receives.

    Attributes:
        expected: number of the next message.
        resumed_s: when its last stream opened, in seconds of the monotonic clock.
    """

    tally: Tally
    expected: int = 0
    resumed_s: float = 0.0

    def take(self, items: list[Item]) -> None:
        for item in items:
            if item["type"] == "resumed":
                self.resumed_s = time.monotonic()
                self.tally.lost += bool(item["lost"])
            elif item["type"] == "message":
                self._count(item["message"]["n"])

    def _count(self, number: int) -> None:
        if number < self.expected:
            self.tally.repeated += 1
            return
        self.tally.missing += number - self.expected
        self.expected = number + 1


@dataclass
class Crowd:
    """All users, and their application."""

    shared: Shared
    progress: Progress
    tally: Tally = field(default_factory=Tally)
    users: list[User] = field(default_factory=list)
    subscribers: list[Subscriber] = field(default_factory=list)
    published: int = 0

    async def begin(self, count: int) -> None:
        """Register all users and open their streams."""
        for number in range(count):
            user = User(self.tally)
            body = {
                "username": f"user-{number}",
                "channels": [CHANNEL],
                "info": {"include_history": False, "include_users": False},
            }
            self.users.append(user)
            self.subscribers.append(Subscriber(self.shared, body, user.take))
        await asyncio.gather(*(subscriber.begin() for subscriber in self.subscribers))
        await self.until("connecting", lambda user: user.resumed_s > 0)

    async def publish(self) -> None:
        """Publish some messages in one call."""
        numbers = range(self.published, self.published + MESSAGES)
        body = [{"user": "app", "channel": CHANNEL, "message": {"n": number}} for number in numbers]
        await self.shared.application.call("/message", body)
        self.published += MESSAGES

    async def all_received(self) -> None:
        await self.until("receiving", lambda user: user.expected == self.published)

    async def until(self, what: str, holds: Callable[[User], bool]) -> None:
        """Wait until a condition holds for all users, and show for how many it does.

        Raises:
            BenchFailed: it does not hold in time, or a client has stopped.
        """
        until_s = time.monotonic() + DEADLINE_S
        while (count := sum(map(holds, self.users))) < len(self.users):
            self.progress.show(what, count, len(self.users))
            if self.shared.stopped:
                raise BenchFailed(f"a client does not reconnect: {self.shared.stopped[0]}")
            if time.monotonic() > until_s:
                raise BenchFailed(f"not all clients are back after {DEADLINE_S:g} s")
            await asyncio.sleep(POLL_S)

    def returned(self) -> Returned:
        """Return what all users have noticed."""
        return Returned(
            clients=len(self.users),
            ends=dict(self.shared.ends),
            lost=self.tally.lost,
            missing=self.tally.missing,
            repeated=self.tally.repeated,
        )

    async def close(self) -> None:
        """End all clients, so that none comes back when the server stops."""
        await self.shared.close()
        for subscriber in self.subscribers:
            subscriber.close()


@asynccontextmanager
async def crowd_at(
    wire: Wire, count: int, progress: Progress, jitter: Callable[[], float]
) -> AsyncIterator[Crowd]:
    """Connect so many users to a server. They end with the context.

    Args:
        jitter: of the waits of clients.
    """
    crowd = Crowd(Shared(Application(wire), jitter), progress)
    try:
        await crowd.begin(count)
        yield crowd
    finally:
        await crowd.close()
