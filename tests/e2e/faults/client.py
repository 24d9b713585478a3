"""A client that follows docs/resume.md: it reconnects to any node from the last event it handled."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from random import Random
from typing import Any

import httpx
from tests.e2e.faults.cluster import ANSWER_S, Cluster, Node
from tests.e2e.faults.truth import PRIVATE, Account, Truth
from tests.e2e.steps import Driver
from tests.e2e.wire import Items, Wire, open_wire
from tests.http_client import async_client

from channelstream_client.errors import Replaced
from channelstream_client.protocol import (
    GOING_AWAY,
    LOST,
    OVERLOADED,
    REPLACED,
    RESTARTING,
    SLOW,
    UNKNOWN_CONNECTION,
    closing_of,
)
from channelstream_client.resuming import OpenStream, RenewConnection, ResumingClient, Stop, Wait

EXPECTED = frozenset({GOING_AWAY, LOST, RESTARTING, OVERLOADED, SLOW, UNKNOWN_CONNECTION})
"""Codes of streams that end here (docs/api.md, Close codes)."""
LOBBY = "lobby"
"""The channel that announces who comes and goes."""
RETRY_S = (0.05, 0.4)
"""Between two calls of `/connect` that fail."""
JITTER = (0.02, 0.1)
"""A small part of the waits of the policy: after a restart 0.06 to 0.3 s, and never longer than 3 s."""
SILENCE_S = 20.0
"""After so long without a heartbeat a client gives a stream up: many times the interval of the nodes here."""


@dataclass
class Stream:
    """One stream, or one poll, of a client.

    Attributes:
        resumed: whether it has sent `resumed`.
        ended_s: when it ended, unless the client left it by itself.
        code: how; None where the line broke.
    """

    node: Node
    transport: str
    asked_s: float
    resumed: bool = False
    ended_s: float | None = None
    code: int | None = None


@dataclass(frozen=True)
class Seen:
    """One event of presence."""

    user: str
    action: str
    at: str


class Client:
    """One user, with one connection at a time.

    Attributes:
        accounts: what it received, by channel.
        presence: the joins and leaves of the lobby it received; None stands for a loss.
        streams: those that ended.
        stream: the one that it has now.
        losses: the channels reported lost to it, each time.
        registered: how often it asked for a connection.
        comes_back: whether it reconnects when a stream ends.
    """

    def __init__(
        self,
        cluster: Cluster,
        truth: Truth,
        user: str,
        channels: Sequence[str],
        transports: Sequence[str],
        random: Random,
        roams: float = 0.0,
    ) -> None:
        """Create a client that is not registered.

        Args:
            transports: which it chooses from, each time.
            roams: the chance that it leaves after a list, to reconnect to another node.
        """
        self.user = user
        self.channels = frozenset(channels)
        self.accounts = {name: Account(truth, user, name) for name in (*channels, PRIVATE)}
        self.presence: list[Seen | None] = []
        self.streams: list[Stream] = []
        self.stream: Stream | None = None
        self.losses: list[frozenset[str]] = []
        self.registered = 0
        self.comes_back = True
        self._cluster = cluster
        self._truth = truth
        self._transports = transports
        self._random = random
        self._roams = roams
        self._node: Node
        self._transport = ""
        self._driver = Driver(self._resuming("", ""), self._open_wire, SILENCE_S)

    @property
    def received(self) -> int:
        return sum(len(account.received) for account in self.accounts.values())

    @property
    def missing(self) -> dict[str, list[int]]:
        """The messages it has still to receive, by channel."""
        missing = {name: account.missing() for name, account in self.accounts.items()}
        return {name: numbers for name, numbers in missing.items() if numbers}

    async def register(self, configs: dict[str, Any] | None = None, at: Node | None = None) -> None:
        """Ask the application for a connection, until a node makes one; an older position is kept."""
        body = {
            "username": self.user,
            "channels": sorted(self.channels),
            "channel_configs": configs or {},
            "since": self._driver.client.position,
        }
        async with async_client(timeout=ANSWER_S) as http:
            while True:
                node = at or self._cluster.any(self._random)
                try:
                    answer = await http.post(node.url + "/connect", json=body, headers=node.sign("/connect"))
                except httpx.TransportError:
                    await self._retry()
                    continue
                if answer.status_code == 200:
                    break
                assert answer.status_code == 503, answer.text
                await self._retry()
        self.registered += 1
        self._driver.client.renewed(answer.json()["conn_id"], answer.json()["position"])

    async def run(self, first: Node) -> None:
        """Listen, at this node first, until cancelled.

        Raises:
            AssertionError: a stream sent something wrong.
        """
        self._node = first
        try:
            while await self._do(self._driver.client.next_step(time.monotonic())):
                pass
        finally:
            await self._driver.close()

    async def _do(self, step: Any) -> bool:
        """Do one step. Return False for a client that does not come back."""
        client = self._driver.client
        match step:
            case OpenStream():
                await self._stay(step)
            case RenewConnection():
                await self.register()
            case Wait(wait_s=wait_s, down=None):
                await asyncio.sleep(wait_s)  # real time: between two polls.
            case Wait(wait_s=wait_s, down=down):
                self._note(down.code)
                if not self.comes_back:
                    return False
                await asyncio.sleep(wait_s)  # real time: how a client comes back.
                self._node = self._cluster.any(self._random)
            case Stop(error=Replaced()):
                self._note(REPLACED)
                self._driver.client = self._resuming(client.conn_id, client.position)
            case _:
                raise AssertionError(step)
        return True

    def _resuming(self, conn_id: str, position: str) -> ResumingClient[None]:
        return ResumingClient(
            "", conn_id, [None], lambda: self._random.uniform(*JITTER), position=position, can_renew=True
        )

    async def _open_wire(self) -> Wire:
        return await open_wire(self._transport, self._node.port)

    async def _stay(self, opening: OpenStream[None]) -> None:
        """Have one stream or poll, until it ends or the client roams."""
        if not self._driver.client.is_polling:
            self._transport = self._random.choice(self._transports)
        stream = self.stream = Stream(self._node, self._transport, time.monotonic())
        roams = False
        async with aclosing(self._driver.lists(opening)) as lists:
            async for items in lists:
                self._handle(stream, items)
                roams = self._random.random() < self._roams and closing_of(items) is None
                if roams:
                    break
        if roams:
            self.stream = None
            self._node = self._cluster.any(self._random)

    def _note(self, code: int) -> None:
        """Record the end of a stream, which must be one that happens here."""
        if self.stream is None:  # It was no stream that failed.
            return
        self.stream.ended_s, self.stream.code = time.monotonic(), None if code == LOST else code
        self.streams.append(self.stream)
        self.stream = None
        # A request that it gave up can be read long after, and then replaces the client's newer stream.
        is_expected = code in EXPECTED or (code == REPLACED and self._driver.gave_up)
        assert is_expected, f"{self.user}: {self.streams[-5:]}"

    async def _retry(self) -> None:
        await asyncio.sleep(self._random.uniform(*RETRY_S))  # real time: how an application repeats a call.

    def _handle(self, stream: Stream, items: Items) -> None:
        for item in items:
            if item["type"] == "closing":
                return
            assert item["position"]
            if item["type"] == "resumed":
                self._resumed(stream, item)
            elif item["type"] == "presence":
                self._presence(item)
            else:
                assert item["type"] == "message", item
                self.accounts[item["channel"] or PRIVATE].receive(self._truth.number(item))

    def _resumed(self, stream: Stream, item: dict[str, Any]) -> None:
        recovered, lost = frozenset(item["recovered"]), frozenset(item["lost"])
        assert not stream.resumed, "resumed twice"
        assert recovered | lost == self.accounts.keys(), item
        assert not recovered & lost, item
        stream.resumed = True
        if lost:
            self.losses.append(lost)
        for name in lost:
            self.accounts[name].lose()
        if LOBBY in lost:
            self.presence.append(None)

    def _presence(self, item: dict[str, Any]) -> None:
        assert item["user"] != self.user, item
        seen = Seen(item["user"], item["message"]["action"], item["timestamp"])
        before = next((e for e in self.presence[::-1] if e is None or e.user == seen.user), None)
        assert before is None or before.action != seen.action, f"{self.user} received twice: {seen}"
        self.presence.append(seen)
