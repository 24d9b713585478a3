"""Measures how long it takes until all clients are back after their server was killed and started again.

The clients follow the reconnect policy of docs/resume.md, and each must receive every message once and in order.
"""

import asyncio
import os
import random
import secrets
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from tempfile import TemporaryDirectory

from msgspec import structs

from channelstream.bench.application import Application
from channelstream.bench.crew import check_descriptors
from channelstream.bench.histogram import Histogram
from channelstream.bench.load import BenchFailed, Load
from channelstream.bench.measure import Stopwatch, Target
from channelstream.bench.processes import use_all_descriptors
from channelstream.bench.progress import Progress
from channelstream.bench.results import Measured, Resume, percentiles, rate
from channelstream.bench.servers import product
from channelstream.bench.subscriber import Shared, Subscriber
from channelstream_client.protocol import Item

CHANNEL = "storm"
MESSAGES = 10
"""Messages before the kill, in one call without a wait for their deliveries, and again as many at the end."""
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

    async def close(self) -> None:
        """End all clients, so that none comes back when the server stops."""
        await self.shared.close()
        for subscriber in self.subscribers:
            subscriber.close()


async def restart(
    load: Load, flags: Sequence[str], progress: Progress, jitter: Callable[[], float] = random.random
) -> Measured:
    """Kill a server on SQLite that has many clients, start another one on its port, and wait until all have everything.

    Args:
        load: its number of clients.
        flags: further options of the server.
        jitter: of the waits of clients.

    Raises:
        BenchFailed: the server does not start, or the clients do not all come back.
    """
    check_descriptors(load)
    use_all_descriptors()
    with TemporaryDirectory() as folder:
        options = ("--engine", f"sqlite:///{folder}/state.db", *flags)
        return Measured(resume=await _resume(load.clients, options, progress, jitter))


async def _resume(
    clients: int, options: Sequence[str], progress: Progress, jitter: Callable[[], float]
) -> Resume:
    secret = secrets.token_hex(16)
    options = ("--secret", secret, *options)
    async with AsyncExitStack() as clients_end:
        async with product(*options) as first:
            wire = structs.replace(first.wire, secret=secret)
            crowd = Crowd(Shared(Application(wire), jitter), progress)
            clients_end.push_async_callback(crowd.close)
            await crowd.begin(clients)
            await crowd.publish()
            await crowd.all_received()
            await crowd.publish()
            crowd.shared.ends.clear()
            killed_s = time.monotonic()
            assert first.pid is not None  # noqa: S101 - for the types: it is a process of ours
            os.kill(first.pid, signal.SIGKILL)
        async with product("-p", str(wire.port), *options) as second:
            return await _recovered(crowd, second, killed_s)


async def _recovered(crowd: Crowd, server: Target, killed_s: float) -> Resume:
    watch, listening_s = Stopwatch(server), time.monotonic()
    with watch:
        await crowd.until("resuming", lambda user: user.resumed_s > killed_s)
    waits, attempts = Histogram(), Histogram()
    for user, subscriber in zip(crowd.users, crowd.subscribers, strict=True):
        waits.add(int((user.resumed_s - listening_s) * 1e9))
        attempts.add(int((user.resumed_s - subscriber.begun_s) * 1e9))
    ends = dict(crowd.shared.ends)
    await crowd.publish()
    await crowd.all_received()
    return Resume(
        clients=len(crowd.users),
        down_s=round(listening_s - killed_s, 3),
        since_listening_ms=percentiles(waits),
        attempt_ms=percentiles(attempts),
        server=rate(len(crowd.users), watch.seconds, watch.cpu_s),
        ends=ends,
        lost=crowd.tally.lost,
        missing=crowd.tally.missing,
        repeated=crowd.tally.repeated,
    )
