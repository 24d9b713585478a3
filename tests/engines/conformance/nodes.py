"""What nodes that share an engine owe each other: commands, claims, and one owner for each connection.

A test module of an engine that several nodes can share imports everything from here as well, and provides the fixture
`with_nodes`. It runs a coroutine function with `Nodes`, and takes care that the nodes have a state of their own.
"""

from collections.abc import Callable, Coroutine
from typing import Any, Protocol

import pytest
from tests.engines.conformance.lab import ALL_FACTS, EMPTY, Recorder, at_once, message
from tests.engines.conformance.outbox import fact_form
from tests.waiting import soon

from channelstream.apps.keys import DEFAULT
from channelstream.core.client_protocol import ClientProtocol
from channelstream.core.events import (
    Message,
)
from channelstream.core.log import PRIVATE
from channelstream.core.position import UNKNOWN_POSITION, ReadRange, shard_of
from channelstream.engines.base import Engine
from channelstream.engines.members import Member
from channelstream.engines.outbox import Outbox, OutboxSettings, passed
from channelstream.engines.time_series import Record
from channelstream.errors import Moved
from channelstream.wire.channelstream import SEED, V07


class Nodes(Protocol):
    """Several engines on one state, in one loop; each has its recorder.

    Attributes:
        shards: the number of shards of the log.
        outbox: what the next ones keep in it.
    """

    shards: int
    outbox: OutboxSettings

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


async def facts_in(engine: Engine, *places: str) -> list[tuple[str, ...]]:
    """Return the facts about these channels and users, as a node reads them."""
    found = await engine.outbox.read(DEFAULT, engine.outbox.beginning, 1000)
    return [fact_form(each.fact) for each in found if each.fact is not None and each.fact.place in places]


def test_facts_are_those_of_all_nodes(with_nodes: WithNodes) -> None:
    """The first and the last connection over all of them count, and a cursor of one is that of the others."""

    async def life(nodes: Nodes) -> None:
        nodes.outbox = ALL_FACTS
        one, recorder = await nodes.member("ann", "a", notify_presence=True)
        other, _ = await nodes.member("bob", "a")
        await one.disconnect(recorder.members.pop("ann")[0], ["a"])
        for engine in (one, other):
            assert await facts_in(engine, "a") == [
                ("occupied", "a"), ("added", "a", "ann"), ("added", "a", "bob"), ("removed", "a", "ann"),
            ]  # fmt: skip
        cursor = passed(one.outbox.beginning, await one.outbox.read(DEFAULT, one.outbox.beginning, 1000))
        token = await one.outbox.hold(60.0)
        assert token is not None
        assert await one.outbox.settle(token, {DEFAULT: {"one": cursor}})
        assert (await facts_in(other, "a"), await other.outbox.cursors()) == ([], {"one": cursor})

    with_nodes(life)


def test_a_connection_that_moves_makes_no_fact(with_nodes: WithNodes) -> None:
    """It was there before, and is there afterwards; its end at the new node is one."""

    async def life(nodes: Nodes) -> None:
        nodes.outbox = ALL_FACTS
        await nodes.member("ann", "a", notify_presence=True)
        other, recorder = await nodes.node()
        before = await facts_in(other, "a", "ann")
        claim = await other.cluster.claim("ann", False, at_once)
        assert claim is not None
        recorder.members["ann"] = (claim.member, {"a"})
        assert await facts_in(other, "a", "ann") == before
        await other.disconnect(claim.member, ["a"])
        ended = [each[0] for each in (await facts_in(other, "a", "ann")) if each not in before]
        assert sorted(ended) == ["closed", "offline", "removed", "vacated"]

    with_nodes(life)


def test_one_node_holds_the_lease(with_nodes: WithNodes) -> None:
    """Until it releases it, or its time is over; then the next one has a greater token, and the former sets no cursor."""

    async def life(nodes: Nodes) -> None:
        one, other = [(await nodes.node())[0].outbox for _ in range(2)]
        first = await one.hold(60.0)
        assert first is not None
        assert await other.hold(60.0) is None
        await other.release()
        assert await one.hold(60.0) == first
        await one.release()
        second = await other.hold(0.05)
        assert second is not None
        assert second > first
        assert await other.settle(second, {DEFAULT: {"one": other.beginning}})
        third = await soon_held(one)
        assert third > second
        assert not await one.settle(first, {})
        assert await one.cursors() == {"one": other.beginning}
        assert await one.settle(third, {})
        assert not await other.settle(second, {DEFAULT: {"one": other.beginning}})

    with_nodes(life)


async def soon_held(outbox: Outbox) -> int:
    """Return the token, as soon as the lease of another node has ended."""
    tokens: list[int] = []

    async def is_held() -> bool:
        tokens.extend(filter(None, [await outbox.hold(60.0)]))
        return bool(tokens)

    await soon(is_held)
    return tokens[0]


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
        assert await other.connect(Member("ann", "ann", V07), EMPTY, {"b": {}}) is None
        assert await other.channels(["b"]) == []
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
                change = await engine.connect(member, EMPTY, since=since)
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
