"""A client that follows docs/resume.md: it reconnects to any node from the last event it handled."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import httpx
from tests.e2e.faults.cluster import ANSWER_S, Cluster, Node
from tests.e2e.faults.truth import PRIVATE, Account, Truth
from tests.e2e.wire import Ended, Items, Wire, open_wire
from tests.http_client import async_client

COME_BACK = frozenset({1001, 1012, 1013, 4008, 503})
"""Codes after which a client comes back with `since` (docs/api.md, Close codes); the last is that of a poll."""
RECONNECT = frozenset({4001, 401})
LOBBY = "lobby"
"""The channel that announces who comes and goes."""
REPLACED = frozenset({4002, 409})
JITTER_S = (0.05, 0.4)
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
        self._conn_id = self._position = ""
        self._gave_up = False

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
            "since": self._position,
        }
        async with async_client(timeout=ANSWER_S) as http:
            while True:
                node = at or self._cluster.any(self._random)
                try:
                    answer = await http.post(node.url + "/connect", json=body, headers=node.sign("/connect"))
                except httpx.TransportError:
                    await self._wait()
                    continue
                if answer.status_code == 200:
                    break
                assert answer.status_code == 503, answer.text
                await self._wait()
        self.registered += 1
        self._conn_id = answer.json()["conn_id"]
        self._position = self._position or answer.json()["position"]

    async def run(self, first: Node) -> None:
        """Listen, at this node first, until cancelled.

        Raises:
            AssertionError: a stream sent something wrong.
        """
        node = first
        while True:
            await self._stay(node)
            if not self.comes_back:
                return
            await self._wait()
            node = self._cluster.any(self._random)

    async def _stay(self, node: Node) -> None:
        """Have one stream, or polls on one line, for as long as it lasts."""
        transport = self._random.choice(self._transports)
        self.stream = Stream(node, transport, time.monotonic())
        wire = None
        try:
            wire = await open_wire(transport, node.port)
            await self._listen(wire, node, transport)
            self.stream = None
        except Ended as end:
            self._note(end.code)
            await self._execute(end.code)
        except TimeoutError:
            self._note(None)
            self._gave_up = True
        except (OSError, asyncio.IncompleteReadError):
            self._note(None)
        finally:
            if wire is not None:
                await wire.close()

    async def _listen(self, wire: Wire, node: Node, transport: str) -> None:
        while True:
            stream = self.stream = Stream(node, transport, time.monotonic())
            async with asyncio.timeout(SILENCE_S):
                await wire.ask(self._conn_id, self._position)
                self._handle(stream, await wire.items())
            while not wire.answers_once and self._random.random() >= self._roams:
                async with asyncio.timeout(SILENCE_S):
                    items = await wire.items()
                self._handle(stream, items)
            if self._random.random() < self._roams or not wire.answers_once:
                return

    def _note(self, code: int | None) -> None:
        assert self.stream is not None
        self.stream.ended_s, self.stream.code = time.monotonic(), code
        self.streams.append(self.stream)
        self.stream = None

    async def _execute(self, code: int) -> None:
        if code in RECONNECT and self.comes_back:
            await self.register()
        elif code in REPLACED:
            # A request it gave up can be read long after, and then replaces the client's newer stream.
            assert self._gave_up, f"{self.user} was replaced by nobody: {self.streams[-5:]}"
        else:
            assert code in COME_BACK, self.streams[-1]

    async def _wait(self) -> None:
        await asyncio.sleep(self._random.uniform(*JITTER_S))  # real time: how a client comes back.

    def _handle(self, stream: Stream, items: Items) -> None:
        for item in items:
            if item["type"] == "closing":
                raise Ended(item["code"])
            if item["type"] == "resumed":
                self._resumed(stream, item)
            elif item["type"] == "presence":
                self._presence(item)
            else:
                assert item["type"] == "message", item
                self.accounts[item["channel"] or PRIVATE].receive(self._truth.number(item))
            self._position = item["position"]

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
