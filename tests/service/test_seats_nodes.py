"""Members under names over nodes that share a Redis: announced once, counted alike, gone with their node."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from itertools import count
from random import Random

import pytest
from tests.engines.redis.nodes import take_out_of_reach
from tests.redis_server import RedisServer, running_redis
from tests.service.channel_counts import Counts, members_in, occupied_in
from tests.waiting import soon

from channelstream.apps.app import App
from channelstream.apps.keys import name_of
from channelstream.clock import RandomIds, SystemClock, new_epoch
from channelstream.close_codes import CloseCode
from channelstream.core.entry import Entry
from channelstream.core.events import Presence
from channelstream.core.hub import Hub
from channelstream.core.registry_limits import Lifetimes, RegistryLimits
from channelstream.core.user import UserUpdate
from channelstream.engines.redis.address import prefixes, shard_addresses
from channelstream.engines.redis.engine import RedisEngine
from channelstream.engines.redis.shard_state import RedisSettings
from channelstream.errors import Invalid
from channelstream.service import Memberships, Node, NodeLimits, Service
from channelstream.wire.channelstream import V07
from channelstream.wire.protocols import PROTOCOLS

ROOM = "room"
EMPTY = UserUpdate({}, {})
LEASE_S = 1.0
PATIENCE_S = 60.0


class Party:
    """Nodes on one Redis, each with the members that its clients are.

    Attributes:
        presence: who joined (True) and left the room, as a native member of the first node receives it.
    """

    def __init__(self, redis: RedisServer, shards: int) -> None:
        [place] = shard_addresses(redis.address)
        self._places = [replace(place, prefix=prefix) for prefix in prefixes(shards)]
        self._numbers = count()
        self.nodes: list[Node] = []
        self.memberships: list[Memberships] = []
        self.presence: list[tuple[str, bool]] = []

    async def add_node(self) -> None:
        new_id = RandomIds().new
        engine = RedisEngine(
            self._places,
            RegistryLimits(),
            Lifetimes(),
            new_id,
            new_epoch,
            "",
            RedisSettings(PATIENCE_S, LEASE_S),
        )
        hub = Hub(PROTOCOLS.formats, lambda: None)
        node = Node(engine, hub, SystemClock(), new_id, NodeLimits(unattached_s=3600.0))
        await node.start()
        self.nodes.append(node)
        self.memberships.append(Memberships(Service(App(), node)))

    def received(self, entry: Entry) -> None:
        if isinstance(entry.event, Presence) and entry.event.channel == ROOM:
            self.presence.append((name_of(entry.event.user), entry.event.joined))

    async def connect(self, node: int) -> str:
        """Open a connection at a node; return its id."""
        conn_id = f"c{next(self._numbers)}"
        await self.nodes[node].connect(conn_id, f"anonymous {conn_id}", V07, {}, EMPTY)
        return conn_id

    async def close(self) -> None:
        for node in self.nodes:
            await node.close()


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(params=[1, 3], ids="{}-shards".format)
def play(
    redis: RedisServer, request: pytest.FixtureRequest
) -> Callable[[Callable[[Party], Awaitable[None]]], None]:
    def run(life: Callable[[Party], Awaitable[None]]) -> None:
        async def whole() -> None:
            party = Party(redis, request.param)
            for _ in range(3):
                await party.add_node()
            party.nodes[0].signals.accepted.connect(party.received)
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await life(party)
            finally:
                await party.close()

        redis.cli("FLUSHALL")
        asyncio.run(whole())

    return run


Play = Callable[[Callable[[Party], Awaitable[None]]], None]


async def watched(party: Party) -> None:
    """Have a native client of the first node in the room, whose own presence is not noted."""
    await party.nodes[0].connect("watcher", "watcher", V07, {ROOM: {"notify_presence": True}}, EMPTY)
    await soon(lambda: ("watcher", True) in party.presence)
    party.presence.clear()


def test_tabs_at_several_nodes_are_one_member(play: Play) -> None:
    """It joins with the first and leaves with the last one; all nodes describe the room alike."""

    async def life(party: Party) -> None:
        await watched(party)
        tabs = [await party.connect(number) for number in range(3)]
        for number, tab in enumerate(tabs):
            assert await party.memberships[number].join_as(tab, ROOM, "ann", {"tab": number}) is True
        for each in party.memberships:
            assert sorted(await members_in(each, ROOM)) == [("ann", {"tab": 0}), ("watcher", {})]
            assert await occupied_in(each) == {ROOM: Counts(2, 4)}
        for number in (1, 0):
            assert await party.memberships[number].leave(tabs[number], ROOM) is True
        assert await party.nodes[2].end(tabs[2], CloseCode.NORMAL, "ended")
        await soon(lambda: ("ann", False) in party.presence)
        assert party.presence == [("ann", True), ("ann", False)]
        assert await occupied_in(party.memberships[1]) == {ROOM: Counts(1, 1)}
        assert await party.memberships[2].join_as(await party.connect(2), ROOM, "ann", {"again": True})
        assert sorted(await members_in(party.memberships[0], ROOM)) == [
            ("ann", {"again": True}),
            ("watcher", {}),
        ]

    play(life)


def test_a_line_opens_without_a_question_to_other_nodes(play: Play) -> None:
    """Its id is new, so that no node can have it; one that is taken all the same is refused."""

    async def life(party: Party) -> None:
        async def asked(*_: object) -> None:
            raise AssertionError("it was asked for")

        party.nodes[1]._cluster.ask = asked  # type: ignore[method-assign]
        connection = await party.memberships[1].open("c1", "1.2", V07)
        assert (connection.id, name_of(connection.user)) == ("c1", "1.2")
        assert party.nodes[1].connection("c1") is connection
        with pytest.raises(Invalid):
            await party.memberships[2].open("c1", "3.4", V07)

    play(life)


def test_members_go_with_their_node(play: Play) -> None:
    """Once its lease has ended; a member who has another connection stays."""

    async def life(party: Party) -> None:
        await watched(party)
        for node, name in ((1, "ann"), (1, "bob"), (2, "bob")):
            await party.memberships[node].join_as(await party.connect(node), ROOM, name, {})
        await soon(lambda: len(party.presence) == 2)
        await party.nodes.pop(1).close()
        await soon(lambda: ("ann", False) in party.presence)
        assert party.presence == [("ann", True), ("bob", True), ("ann", False)]
        assert await occupied_in(party.memberships[2]) == {ROOM: Counts(2, 2)}

    play(life)


def test_members_come_back_with_their_node(play: Play) -> None:
    """One that was out of reach until others have declared it dead registers them again, under their names."""

    async def life(party: Party) -> None:
        await watched(party)
        tabs = [await party.connect(1) for _ in range(2)]
        for tab in tabs:
            await party.memberships[1].join_as(tab, ROOM, "ann", {"name": "Ann"})
        await party.memberships[2].join_as(await party.connect(2), ROOM, "bob", {})
        mends = [take_out_of_reach(shard) for shard in party.nodes[1]._engine._shards]  # type: ignore[attr-defined]
        await soon(lambda: ("ann", False) in party.presence)
        assert await occupied_in(party.memberships[0]) == {ROOM: Counts(2, 2)}
        for mend in mends:
            mend()
        await soon(lambda: party.presence[-1] == ("ann", True))
        assert party.presence == [("ann", True), ("bob", True), ("ann", False), ("ann", True)]

        async def are_back() -> bool:
            return await occupied_in(party.memberships[0]) == {ROOM: Counts(3, 4)}

        await soon(are_back)
        assert sorted(await members_in(party.memberships[1], ROOM)) == [
            ("ann", {"name": "Ann"}),
            ("bob", {}),
            ("watcher", {}),
        ]
        assert await party.memberships[1].leave(tabs[0], ROOM)
        assert await party.memberships[1].leave(tabs[1], ROOM)
        await soon(lambda: party.presence[-1] == ("ann", False))

    play(life)


def test_all_connections_in_a_channel_end_at_all_nodes(play: Play) -> None:
    """Members and others."""

    async def life(party: Party) -> None:
        for number in range(3):
            await party.memberships[number].join_as(await party.connect(number), ROOM, "ann", {})
        other = await party.connect(1)
        await party.nodes[1].subscribe(other, {ROOM: {}})
        assert await party.memberships[0].end_in(ROOM, CloseCode.NORMAL, "ended") == 4
        await soon(lambda: not any(node.hub.connections or node.hub.seats for node in party.nodes))

        async def is_empty() -> bool:
            return await occupied_in(party.memberships[0]) == {}

        await soon(is_empty)

    play(life)


@pytest.mark.parametrize("seed", range(3))
def test_whatever_tabs_do_presence_is_that_of_their_users(play: Play, seed: int) -> None:
    """Joins, leaves and ends at three nodes at once: each user's events alternate, and the last one is true."""

    async def life(party: Party) -> None:
        random = Random(seed)
        await watched(party)
        inside: dict[str, str] = {}

        async def tab(name: str) -> None:
            node = random.randrange(3)
            conn_id = await party.connect(node)
            for _ in range(8):
                if conn_id in inside:
                    assert await party.memberships[node].leave(conn_id, ROOM)
                    del inside[conn_id]
                else:
                    assert await party.memberships[node].join_as(conn_id, ROOM, name, {})
                    inside[conn_id] = name
                if random.random() < 0.15:
                    await party.nodes[random.randrange(3)].end(conn_id, CloseCode.NORMAL, "ended")
                    inside.pop(conn_id, None)
                    return

        names = ["ann", "bob", "eve"]
        await asyncio.gather(*(tab(random.choice(names)) for _ in range(12)))
        here = set(inside.values())

        async def agrees() -> bool:
            found = await occupied_in(party.memberships[random.randrange(3)])
            return found == {ROOM: Counts(len(here) + 1, len(inside) + 1)}

        await soon(agrees, lambda: f"seed {seed}: {here} {inside}")
        await party.nodes[0].catch_up(range(len(party.nodes[0].hub.offsets)))
        for name in names:
            mine = [joined for user, joined in party.presence if user == name]
            assert mine == [number % 2 == 0 for number in range(len(mine))], (seed, name)
            assert (name in here) == (bool(mine) and mine[-1]), (seed, name)

    play(life)
