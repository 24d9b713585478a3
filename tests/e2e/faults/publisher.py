"""An application that publishes to any node, and repeats a message until it is acknowledged."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random
from uuid import UUID

from tests.e2e.faults.cluster import Cluster, Node
from tests.e2e.faults.truth import PRIVATE, Message, Truth
from tests.e2e.wire import CallWire, open_calls

ANSWER_S = 10.0
"""How long a node may take to answer before the message is sent to another."""
PAUSE_S = (0.0, 0.4)
"""Between two messages of a publisher: the fault finds, so the load is small."""
CALM = 8.0
"""How many times as long a publisher pauses while a scenario only waits."""
RETRY_S = (0.1, 0.3)
PRIVATELY = 0.15
"""How many of the messages are private."""


@dataclass(frozen=True)
class Attempt:
    """One request; without a status the line broke or no answer came."""

    node: Node
    begun_s: float
    ended_s: float
    status: int | None
    retry_after: str | None


class Publisher:
    """Sends one message after the other, each with a uuid of its own.

    Attributes:
        attempts: all its requests.
        is_calm: whether it makes long pauses.
    """

    def __init__(
        self, number: int, cluster: Cluster, truth: Truth, channel: str, users: Sequence[str], random: Random
    ) -> None:
        self.attempts: list[Attempt] = []
        self.is_calm = False
        self._number = number
        self._cluster = cluster
        self._truth = truth
        self._channel = channel
        self._users = users
        self._random = random
        self._lines: dict[Node, CallWire] = {}

    async def run(self) -> None:
        """Publish until the truth is complete; then a last message to the channel, and one to everybody in private."""
        async with self._hanging_up():
            while not self._truth.complete:
                private = self._random.random() < PRIVATELY
                await self._publish(*(self._some() if private else (self._channel, None)))
                await asyncio.sleep(self._pause_s())  # real time: the load.
            await self._publish(self._channel, None)
            await self._publish(PRIVATE, frozenset(self._users))

    def _pause_s(self) -> float:
        return self._random.uniform(*PAUSE_S) * (CALM if self.is_calm else 1.0)

    async def burst(self, node: Node, count: int, size: int) -> None:
        """Publish so many messages of so many bytes to the channel, at one node."""
        async with self._hanging_up():
            for _ in range(count):
                await self._publish(self._channel, None, node, "x" * size)

    @asynccontextmanager
    async def _hanging_up(self) -> AsyncIterator[None]:
        try:
            yield
        finally:
            for node in list(self._lines):
                await self._lines.pop(node).close()

    def _some(self) -> tuple[str, frozenset[str]]:
        return PRIVATE, frozenset(self._random.sample(self._users, 3))

    async def _publish(
        self,
        channel: str,
        only: frozenset[str] | None,
        node: Node | None = None,
        text: str = "",
    ) -> None:
        number = len(self._truth.messages)
        message = Message(str(UUID(int=number + 1, version=4)), self._number, channel, only)
        self._truth.add(message)
        body = {
            "uuid": message.uuid,
            "user": "app",
            "channel": channel or None,
            "pm_users": sorted(only or ()),
            "message": {"n": number, "text": text},
        }
        message.attempts += 1
        while not await self._attempt(node or self._cluster.any(self._random), body):
            await asyncio.sleep(self._random.uniform(*RETRY_S))  # real time: the load.
            message.attempts += 1
        self._truth.acknowledged += 1

    async def _attempt(self, node: Node, body: dict[str, object]) -> bool:
        begun_s = time.monotonic()
        status = retry_after = None
        try:
            async with asyncio.timeout(ANSWER_S):
                status, fields, text = await self._call(node, body)
            retry_after = fields.get("retry-after")
            assert status in (200, 503), text
            assert status == 200 or retry_after, "503 without Retry-After"
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            # The line broke, or nobody answered: the same message goes to another node.
            if line := self._lines.pop(node, None):
                await line.close()
        self.attempts.append(Attempt(node, begun_s, time.monotonic(), status, retry_after))
        return status == 200

    async def _call(self, node: Node, body: dict[str, object]) -> tuple[int, dict[str, str], bytes]:
        if node not in self._lines:
            self._lines[node] = await open_calls(node.port)
        return await self._lines[node].post("/message", [body], node.sign("/message"))
