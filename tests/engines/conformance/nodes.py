"""What nodes that share an engine owe each other: commands, claims, and one owner for each connection.

A test module of an engine that several nodes can share imports everything from here as well, and provides the fixture
`with_nodes`. It runs a coroutine function with `Nodes`, and takes care that the nodes have a state of their own.
"""

from collections.abc import Callable, Coroutine
from typing import Any, Protocol

import pytest
from tests.engines.conformance.lab import EMPTY, Recorder, at_once, message
from tests.waiting import soon

from channelstream.core.client_protocol import ClientProtocol
from channelstream.core.events import (
    Message,
)
from channelstream.core.log import PRIVATE
from channelstream.core.position import UNKNOWN_POSITION, ReadRange, shard_of
from channelstream.engines.base import Engine
from channelstream.engines.members import Member
from channelstream.engines.time_series import Record
from channelstream.errors import Moved
from channelstream.wire.channelstream import SEED, V07


class Nodes(Protocol):
    """Several engines on one state, in one loop; each has its recorder.

    Attributes:
        shards: the number of shards of the log.
    """

    shards: int

    async def node(self) -> tuple[Engine, Recorder]:
        """Start one more."""

    async def member(
        self, conn_id: str, *channels: str, protocol: ClientProtocol = V07, **settings: Any
    ) -> tuple[Engine, Recorder]:
        """Start one more that holds a connection, whose user is called like it."""


WithNodes = Callable[[Callable[[Any], Coroutine[Any, Any, None]]], None]


def received(recorder: Recorder) -> list[str]:
    return [entry.event.uuid for entry in recorder.entries if isinstance(entry.event, Message)]


def test_a_command_reaches_the_node_of_its_connection(with_nodes: WithNodes) -> None:
    """And the answer returns; a connection without an owner is unknown."""

    async def life(nodes: Nodes) -> None:
        await nodes.member("ann", "a")
        other, _ = await nodes.node()
        assert await other.cluster.ask("ann", b"\xff stop") == b"executed \xff stop"
        assert await other.cluster.ask("nobody", b"stop") is None
        assert await other.cluster.members("a") == {"ann": "ann"}

    with_nodes(life)


def test_a_command_reaches_a_node_by_its_id(with_nodes: WithNodes) -> None:
    """Also the node that sends it."""

    async def life(nodes: Nodes) -> None:
        one, _ = await nodes.node()
        other, _ = await nodes.node()
        for engine in (one, other):
            assert await other.cluster.ask_node(engine.cluster.node_id, b"\xff stop") == b"executed \xff stop"

    with_nodes(life)


def test_records_by_time_are_those_of_all_nodes(with_nodes: WithNodes) -> None:
    """Also two that are equal."""

    async def life(nodes: Nodes) -> None:
        one, _ = await nodes.node()
        other, _ = await nodes.node()
        for engine in (one, other):
            await engine.time_series.append("minutes", Record(60.0, b"same"), 3600.0)
        for engine in (one, other):
            assert await engine.time_series.read("minutes", 60.0) == [(60.0, b"same")] * 2

    with_nodes(life)


def test_a_text_is_used_by_one_node_only(with_nodes: WithNodes) -> None:
    """And by each again when it has been kept for long enough; others do not count."""

    async def life(nodes: Nodes) -> None:
        one, other = [(await nodes.node())[0].cluster for _ in range(2)]
        assert await one.use_once("web:1", 60.0)
        assert not await other.use_once("web:1", 60.0)
        assert await other.use_once("web:2", 0.05)
        await soon(lambda: one.use_once("web:2", 60.0))

    with_nodes(life)


def test_a_claimed_connection_keeps_its_protocol(with_nodes: WithNodes) -> None:
    """Its channels include its audience until it leaves them at its new node."""

    async def always(engine: Engine) -> int:
        [channel] = await engine.channels(["a"], with_users=False)
        return channel.always_connections

    async def life(nodes: Nodes) -> None:
        await nodes.member("old", "a", protocol=SEED)
        other, recorder = await nodes.member("ann", "a")
        claim = await other.cluster.claim("old", orphan=False, request_release=at_once)
        assert claim is not None
        recorder.members["old"] = (claim.member, set(claim.channels))
        assert claim.member == Member("old", "old", SEED)
        assert await always(other) == 1
        await other.leave(claim.member, ["a"])
        assert await always(other) == 0

    with_nodes(life)


def test_a_claimed_connection_is_released_and_delivered_there(with_nodes: WithNodes) -> None:
    """Its channels move with it; an id is never two connections."""

    async def life(nodes: Nodes) -> None:
        _, before = await nodes.member("ann", "a")
        other, recorder = await nodes.node()
        assert await other.connect(Member("ann", "ann", V07), EMPTY) is None
        claim = await other.cluster.claim("ann", orphan=False, request_release=at_once)
        assert claim is not None
        recorder.members["ann"] = (claim.member, set(claim.channels))
        assert (claim.member.user, list(claim.channels)) == ("ann", ["a"])
        await soon(lambda: "ann" not in before.members)
        await other.publish([message("m1")])
        await soon(lambda: received(recorder) == ["m1"])
        assert await other.cluster.claim("nobody", orphan=False, request_release=at_once) is None

    with_nodes(life)


def test_the_read_range_of_a_connection_moves_with_it(with_nodes: WithNodes) -> None:
    """The offsets of its joins and its registration, and those that the application named: also to a third node."""

    async def life(nodes: Nodes) -> None:
        engine, recorder = await nodes.node()
        member = Member("ann", "ann", V07)
        named = await engine.head()
        wanted: dict[str, ReadRange] = {}
        for name, since in {PRIVATE: named, "a": None, "b": named, "c": UNKNOWN_POSITION}.items():
            place = name or "ann"
            shard = shard_of(place, nodes.shards)
            await engine.publish([message(f"m{name}", channel=place, only=frozenset({"ann"}))])
            if name == PRIVATE:
                change = await engine.connect(member, EMPTY, since)
                assert change is not None
                joined = change.offsets[shard]
                recorder.members["ann"] = (member, set())
            else:
                joined = (await engine.join(member, {name: {}}, since))[name]
            wanted[name] = ReadRange.of(joined, since and since.offset_in(named.epochs, shard))
        for _ in range(2):
            other, _ = await nodes.node()
            claim = await other.cluster.claim("ann", orphan=False, request_release=at_once)
            assert claim is not None
            assert claim.channels | {PRIVATE: claim.private} == wanted

    with_nodes(life)


def test_a_living_owner_keeps_its_connection_from_claims_of_orphans(with_nodes: WithNodes) -> None:
    """It is not asked to release it, and stays its owner."""

    async def life(nodes: Nodes) -> None:
        owner, recorder = await nodes.member("ann", "a")
        other, _ = await nodes.node()
        with pytest.raises(Moved):
            await other.cluster.claim("ann", orphan=True, request_release=at_once)
        assert owner.cluster.owns("ann")
        assert "ann" in recorder.members

    with_nodes(life)


@pytest.mark.parametrize("call", ["join", "leave", "disconnect"])
def test_a_former_owner_changes_nothing(with_nodes: WithNodes, call: str) -> None:
    """What it still does about a connection that another node has claimed is refused."""

    async def life(nodes: Nodes) -> None:
        before, recorder = await nodes.member("ann", "a")
        member, _ = recorder.members["ann"]
        other, there = await nodes.node()
        claim = await other.cluster.claim("ann", orphan=False, request_release=at_once)
        assert claim is not None
        there.members["ann"] = (claim.member, set(claim.channels))
        calls = {
            "join": lambda: before.join(member, {"b": {}}),
            "leave": lambda: before.leave(member, ["a"]),
            "disconnect": lambda: before.disconnect(member, ["a"]),
        }
        with pytest.raises(Moved):
            await calls[call]()
        [channel] = await other.channels(["a"])
        assert channel.users == {"ann": 1}
        assert await before.cluster.ask("ann", b"stop") == b"executed stop"

    with_nodes(life)
