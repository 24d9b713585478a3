"""Measures how long it takes until all clients are back after their server was killed and started again.

The clients follow the reconnect policy of docs/resume.md, and each must receive every message once and in order.
`python -m channelstream.bench.restart --help` lists the options.
"""

import argparse
import asyncio
import os
import random
import resource
import secrets
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import quantiles
from tempfile import TemporaryDirectory

import uvloop
from msgspec import structs

from channelstream.bench.crew import check_descriptors
from channelstream.bench.load import BenchFailed, Load
from channelstream.bench.measure import Target
from channelstream.bench.servers import product
from channelstream.bench.subscriber import Application, Shared, Subscriber
from channelstream_client.protocol import Item

CHANNEL = "storm"
MESSAGES = 10
"""Messages before the kill, in one call without a wait for their deliveries, and again as many at the end."""
DEADLINE_S = 300.0
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
        await self.until(lambda: all(user.resumed_s for user in self.users))

    async def publish(self) -> None:
        """Publish some messages in one call."""
        numbers = range(self.published, self.published + MESSAGES)
        body = [{"user": "app", "channel": CHANNEL, "message": {"n": number}} for number in numbers]
        await self.shared.application.call("/message", body)
        self.published += MESSAGES

    async def all_received(self) -> None:
        await self.until(lambda: all(user.expected == self.published for user in self.users))

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait for a condition.

        Raises:
            BenchFailed: it does not hold in time, or a client has stopped.
        """
        until_s = time.monotonic() + DEADLINE_S
        while not holds():
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


@dataclass(frozen=True, slots=True)
class Row:
    """The figures of one run; times count from the moment at which the server listens again."""

    clients: int
    down_s: float
    median_s: float
    percentile_99_s: float
    last_s: float
    attempts_each: float
    server_cpu_s: float
    tally: Tally

    @property
    def is_right(self) -> bool:
        return self.tally == Tally()

    def __str__(self) -> str:
        tally = self.tally
        return (
            f"{self.clients:,} clients, server away for {self.down_s:.1f} s; back after it listened:"
            f" median {self.median_s:.2f} s, 99th percentile {self.percentile_99_s:.2f} s, last {self.last_s:.2f} s;"
            f" {self.attempts_each:.1f} failures a client; {self.server_cpu_s:.1f} s of the server's CPU;"
            f" lost {tally.lost}, missing {tally.missing}, repeated {tally.repeated}"
        )


async def run(
    clients: int, engine: str, flags: Sequence[str] = (), jitter: Callable[[], float] = random.random
) -> Row:
    """Open the streams, kill the server, start another one on its port, and wait until all have everything.

    Args:
        flags: options of the server.
        jitter: of the waits of clients.
    """
    secret = secrets.token_hex(16)
    options = ["--engine", engine, "--secret", secret, *flags]
    async with product(*options) as first:
        wire = structs.replace(first.wire, secret=secret)
        crowd = Crowd(Shared(Application(wire), jitter))
        await crowd.begin(clients)
        await crowd.publish()
        await crowd.all_received()
        await crowd.publish()
        killed_s = time.monotonic()
        os.kill(first.pid or 0, signal.SIGKILL)
    async with product("-p", str(wire.port), *options) as second:
        try:
            return await _recovered(crowd, second, killed_s)
        finally:
            await crowd.close()


async def _recovered(crowd: Crowd, server: Target, killed_s: float) -> Row:
    listening_s, cpu_s = time.monotonic(), server.cpu_s() or 0.0
    await crowd.until(lambda: all(user.resumed_s > killed_s for user in crowd.users))
    cpu_s = (server.cpu_s() or 0.0) - cpu_s
    waits = sorted(max(0.0, user.resumed_s - listening_s) for user in crowd.users)
    await crowd.publish()
    await crowd.all_received()
    cuts = quantiles(waits, n=100, method="inclusive")
    return Row(
        clients=len(crowd.users),
        down_s=listening_s - killed_s,
        median_s=cuts[49],
        percentile_99_s=cuts[98],
        last_s=waits[-1],
        attempts_each=sum(subscriber.failures for subscriber in crowd.subscribers) / len(crowd.users),
        server_cpu_s=cpu_s,
        tally=crowd.tally,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run it, and return 1 if something was lost, missing or repeated."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m channelstream.bench.restart")
    parser.add_argument("--clients", type=int, default=15_000, help="clients, at least 2 (15000)")
    parser.add_argument("--flag", nargs="*", default=[], help="options of the server")
    options = parser.parse_args(argv)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        check_descriptors(Load(clients=options.clients))
        with TemporaryDirectory() as folder:
            row = uvloop.run(run(options.clients, f"sqlite:///{folder}/state.db", options.flag))
    except BenchFailed as error:
        print(f"restart: {error}", file=sys.stderr)
        return 1
    print(row)
    return 0 if row.is_right else 1


if __name__ == "__main__":
    sys.exit(main())
