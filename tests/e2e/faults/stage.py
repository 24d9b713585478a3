"""The load of a scenario: publishers and clients, and the checks at its end."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from random import Random

from tests.e2e.faults.client import LOBBY, Client
from tests.e2e.faults.cluster import ANSWER_S, Cluster, Node
from tests.e2e.faults.outage import Outage
from tests.e2e.faults.publisher import Attempt, Publisher
from tests.e2e.faults.truth import Truth
from tests.http_client import async_client
from tests.waiting import soon

DEADLINE_S = 60.0
"""For anything that is waited for."""
CHANNELS = ("news", "sport", "talk")
PROGRESS = 20
"""Messages between two steps of a scenario: each publisher has sent some, and all transports have delivered them."""
PUBLISHERS = ("news", "news", "sport", "sport", "talk", LOBBY)
"""The channel of each."""
USERS = {
    "ann": (("ws",), 0.0),
    "bob": (("ws",), 0.0),
    "cat": (("ws",), 0.0),
    "dan": (("sse",), 0.0),
    "eve": (("sse",), 0.0),
    "fay": (("sse",), 0.0),
    "gus": (("poll",), 0.1),
    "hal": (("poll",), 0.3),
    "ivy": (("poll",), 1.0),
    "joe": (("ws", "sse", "poll"), 0.02),
    "kim": (("ws", "sse"), 0.01),
    "lea": (("sse", "ws"), 0.05),
}
"""Users with the transports they choose from, and how likely each leaves after a list to come back elsewhere."""


@dataclass
class Stage:
    """A cluster under load.

    Attributes:
        absent: clients that do not come back when their node dies.
        outages: what a scenario has marked.
        outage_s: how long outages of a fixed length last.
    """

    cluster: Cluster
    random: Random
    outage_s: float
    truth: Truth = field(default_factory=Truth)
    clients: list[Client] = field(default_factory=list)
    absent: list[Client] = field(default_factory=list)
    publishers: list[Publisher] = field(default_factory=list)
    outages: list[Outage] = field(default_factory=list)

    @property
    def victim(self) -> Node:
        """The node to which a scenario does something."""
        return self.cluster.all[-1]

    @property
    def others(self) -> list[Node]:
        return self.cluster.all[:-1]

    @property
    def attempts(self) -> list[Attempt]:
        return [attempt for publisher in self.publishers for attempt in publisher.attempts]

    # -- waiting

    async def until(self, what: str, holds: Callable[[], bool]) -> None:
        """Wait for a condition.

        Raises:
            AssertionError: it does not come.
        """
        await soon(holds, f"it does not come that {what}", DEADLINE_S)

    async def progress(self, messages: int = PROGRESS) -> None:
        """Wait until so many more messages are acknowledged, and every client has received something more."""
        goal = self.truth.acknowledged + messages
        received = {client.user: client.received for client in self.clients}
        await self.until(f"{messages} more are acknowledged", lambda: self.truth.acknowledged >= goal)
        await self.until(
            "all receive more", lambda: all(each.received > received[each.user] for each in self.clients)
        )

    async def all_lost(self) -> None:
        """Wait until all clients are sent that all is lost, and go on."""
        await self.until(
            "all are sent that all is lost",
            lambda: all(frozenset(each.accounts) in each.losses for each in self.clients),
        )
        await self.progress()

    @contextmanager
    def calm(self) -> Iterator[None]:
        """Have a small load while only time has to pass: what the full load finds, it has found before."""
        for publisher in self.publishers:
            publisher.is_calm = True
        yield
        for publisher in self.publishers:
            publisher.is_calm = False

    @contextmanager
    def outage(self, *nodes: Node) -> Iterator[Outage]:
        """Mark the outage of Redis for these nodes."""
        outage = Outage(nodes, time.monotonic(), {each.user: each.stream for each in self.clients})
        yield outage
        outage.ended_s = time.monotonic()
        outage.kept = {each.user: each.stream for each in self.clients}
        self.outages.append(outage)

    async def refused(self, outage: Outage, count: int = 20) -> None:
        """Wait until so many messages were refused in an outage."""
        await self.until("messages are refused", lambda: len(outage.refused(self.attempts)) >= count)

    # -- the load

    async def fill(self, absent: int, more_channels: Sequence[str], configs: dict[str, object]) -> None:
        """Register all clients, each at a node in turn, in the lobby and two or three channels.

        Args:
            more_channels: for half of the clients, so that there are some of each kind at every node.
        """
        for number, (user, (transports, roams)) in enumerate(USERS.items()):
            channels = self.random.sample(CHANNELS, self.random.randint(2, 3))
            more = more_channels if number >= len(USERS) // 2 else ()
            self.clients.append(self._client(user, (LOBBY, *channels, *more), transports, roams))
        for number in range(absent):
            transport = ("ws", "sse", "poll")[number % 3]
            self.absent.append(self._client(f"absent-{number}", (LOBBY,), (transport,), 0.0))
        for number, client in enumerate(self.clients):
            await client.register(configs, at=self.cluster.nodes[number % len(self.cluster.nodes)])
        for client in self.absent:
            client.comes_back = False
            await client.register(configs, at=self.victim)
        for channel in PUBLISHERS:
            self.publisher(channel)

    def _client(self, user: str, channels: Sequence[str], transports: Sequence[str], roams: float) -> Client:
        return Client(
            self.cluster, self.truth, user, channels, transports, Random(self.random.random()), roams
        )

    def publisher(self, channel: str) -> Publisher:
        """Make one more publisher; those that are there when the load begins publish by themselves."""
        number, random = len(self.publishers), Random(self.random.random())
        publisher = Publisher(number, self.cluster, self.truth, channel, tuple(USERS), random)
        self.publishers.append(publisher)
        return publisher

    @asynccontextmanager
    async def load(self) -> AsyncIterator[None]:
        """Let all run; at the end every client must have received all messages."""
        async with asyncio.TaskGroup() as group:
            listening = [
                group.create_task(client.run(self.cluster.nodes[number % len(self.cluster.nodes)]))
                for number, client in enumerate(self.clients)
            ]
            listening += [group.create_task(client.run(self.victim)) for client in self.absent]
            publishing = [group.create_task(each.run()) for each in self.publishers]
            yield
            self.truth.complete = True
            await asyncio.wait_for(asyncio.gather(*publishing), DEADLINE_S)
            await self.all_received()
            await self.all_counted()
            for task in listening:
                task.cancel()

    async def all_received(self) -> None:
        """Wait until no client misses anything."""

        def missing() -> dict[str, dict[str, list[int]]]:
            return {each.user: each.missing for each in self.clients if each.missing}

        await soon(lambda: not missing(), lambda: f"acknowledged and missing: {missing()}", DEADLINE_S)

    async def all_counted(self) -> None:
        """Wait until every node lists the members of the lobby: all clients, and nobody else."""
        users = sorted(client.user for client in self.clients)

        async def counts_all(node: Node) -> bool:
            info = await node.info(http, LOBBY)
            return info is not None and info["users"] == users

        async with async_client(timeout=ANSWER_S) as http:
            for node in self.cluster.nodes:
                await soon(lambda node=node: counts_all(node), "a node counts others", DEADLINE_S)  # type: ignore[misc]
