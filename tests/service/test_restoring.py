"""A node whose engine restores connections: how long they wait, and what counts them."""

import asyncio
from itertools import count
from pathlib import Path

import pytest
from tests.core.test_explain import Sink
from tests.engines.conformance.lab import MovedClock, Setup
from tests.engines.sqlite_runs import sqlite_engine

from channelstream.close_codes import CloseCode
from channelstream.config import Settings
from channelstream.core.batch import BufferBatch
from channelstream.core.connection import ConnectionState
from channelstream.core.deadlines import SLOT_S
from channelstream.core.entry import Entry
from channelstream.core.events import Presence
from channelstream.core.hub import Hub
from channelstream.core.user import UserUpdate
from channelstream.errors import Unavailable
from channelstream.server import build
from channelstream.service import Node
from channelstream.service.limits import NodeLimits
from channelstream.wire.channelstream import V07
from channelstream.wire.protocols import PROTOCOLS
from channelstream_client.reconnect import LONGEST_STEP_S

EMPTY = UserUpdate({}, {})
RESTORED_S = 25.0
"""Unlike the default, so that it is this bound that counts."""


class Accepted:
    """A consumer of what the node's engine accepts."""

    def __init__(self, node: Node) -> None:
        self.entries: list[Entry] = []
        node.signals.accepted.connect(self.entries.append)

    def presences(self) -> list[tuple[str, bool]]:
        events = [entry.event for entry in self.entries]
        return [(event.user, event.joined) for event in events if isinstance(event, Presence)]


class Servers:
    """The servers of one file, one after the other, with a clock that is moved by hand."""

    def __init__(self, path: Path, connections: int = 10) -> None:
        self.clock = MovedClock()
        self._path = path
        self._limits = NodeLimits(connections, restored_s=RESTORED_S)
        self._numbers = count()

    async def start(self) -> tuple[Node, Accepted]:
        ids = count(1_000_000 * next(self._numbers))
        engine = sqlite_engine(self._path, Setup(self.clock), next(ids))
        hub = Hub(PROTOCOLS.formats, lambda: None)
        node = Node(engine, hub, self.clock, lambda: f"id-{next(ids)}", self._limits)
        accepted = Accepted(node)
        await node.start()
        return node, accepted

    async def restarted(self, *users: str) -> tuple[Node, Accepted]:
        """Return a node that was started after one at which each of these users has a connection of the same name."""
        node, _ = await self.start()
        for user in users:
            await node.connect(user, user, V07, {"a": {"notify_presence": True}}, EMPTY)
        await node.close()
        self.clock.passed_s += 3600.0
        return await self.start()


@pytest.fixture
def servers(tmp_path: Path) -> Servers:
    return Servers(tmp_path / "state.db")


def test_who_comes_back_stays_a_member_and_who_does_not_leaves_once(servers: Servers) -> None:
    """Each has its grace from the start of this server, however long there was none."""

    async def life() -> None:
        node, accepted = await servers.restarted("ann", "bob")
        ann, bob = node.connection("ann"), node.connection("bob")
        assert ann is not None and bob is not None
        assert ann.state is bob.state is ConnectionState.RESTORED
        servers.clock.passed_s += RESTORED_S - 2 * SLOT_S
        await node.sweep()
        node.hub.attach(ann, Sink(), BufferBatch(1))
        node.local.attached(ann)
        assert accepted.presences() == []
        servers.clock.passed_s += 4 * SLOT_S
        await node.sweep()
        await node.configure({})  # It waits for the commit of the leave.
        assert (node.connection("ann"), node.connection("bob")) == (ann, None)
        assert accepted.presences() == [("bob", False)]
        [channel] = await node.directory.channels(["a"])
        assert channel.users == {"ann": 1}
        await node.close()

    asyncio.run(life())


def test_a_restored_connection_is_found_by_the_calls_of_its_application(servers: Servers) -> None:
    """`/connect` with its id adds channels, `/disconnect` ends it."""

    async def life() -> None:
        node, accepted = await servers.restarted("ann")
        opened = await node.connect("ann", "ann", V07, {"b": {}}, EMPTY)
        assert opened.channels == ["a", "b"]
        assert await node.members("a") == {"ann": "ann"}
        assert await node.end("ann", CloseCode.NORMAL, "ended")
        assert accepted.presences() == [("ann", False)]
        await node.close()
        node, accepted = await servers.start()
        assert (node.connection("ann"), accepted.presences()) == (None, [])
        await node.close()

    asyncio.run(life())


def test_restored_connections_count_at_the_limits(tmp_path: Path) -> None:
    """A node that is full with them takes no others."""
    servers = Servers(tmp_path / "state.db", connections=2)

    async def life() -> None:
        node, _ = await servers.restarted("ann", "bob")
        with pytest.raises(Unavailable):
            await node.connect("cid", "cid", V07, {}, EMPTY)
        await node.end("bob", CloseCode.NORMAL, "ended")
        assert await node.connect("cid", "cid", V07, {}, EMPTY)
        await node.close()

    asyncio.run(life())


def test_a_client_that_follows_the_policy_comes_back_in_time() -> None:
    """It may wait for the longest step of the policy before it tries, and has the usual time from then on."""
    limits = build(Settings(poll_gap_s=7.0, detach_grace_s=11.0)).node.limits
    assert limits.restored_s == LONGEST_STEP_S + 11.0
    assert build(Settings(poll_gap_s=7.0, detach_grace_s=2.0)).node.limits.restored_s == LONGEST_STEP_S + 7.0
