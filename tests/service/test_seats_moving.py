"""Seats after a restart, and in another process: what becomes of members with names of their own."""

import asyncio
from itertools import count
from pathlib import Path

import pytest
from tests.engines.conformance import MovedClock, Setup
from tests.engines.sqlite_runs import sqlite_engine
from tests.service.test_seats import ROOM, Scene, play

from channelstream.apps.app import App
from channelstream.apps.keys import name_of
from channelstream.core.client_protocol import ClientProtocol, PresenceAudience
from channelstream.core.entry import Entry
from channelstream.core.events import Presence
from channelstream.core.hub import Hub
from channelstream.core.position import ReadRange
from channelstream.core.seat import seat_id
from channelstream.core.user import UserUpdate
from channelstream.engines.members import Member, RestoredConnection
from channelstream.service import Memberships, Node, Service
from channelstream.service.limits import NodeLimits
from channelstream.service.moving import IncomingConnections, OutgoingConnections
from channelstream.wire.channelstream import V07
from channelstream.wire.protocols import PROTOCOLS

EMPTY = UserUpdate({}, {})


def test_members_do_not_outlive_a_restart(tmp_path: Path) -> None:
    """Nobody comes back to them: clients of such a protocol open another connection."""

    async def life() -> None:
        def node(number: int) -> Node:
            engine = sqlite_engine(tmp_path / "state.db", Setup(MovedClock()), 1000 * number)
            hub, ids = Hub(PROTOCOLS.formats, lambda: None), count()
            limits = NodeLimits(not_resuming=frozenset({V07.name}))
            return Node(engine, hub, MovedClock(), lambda: f"{number}-{next(ids)}", limits)

        first = node(1)
        await first.start()
        memberships = Memberships(Service(App(), first))
        await first.connect("c1", "anonymous", V07, {"plain": {}}, EMPTY)
        await memberships.join_as("c1", ROOM, "ann", {"name": "Ann"})
        await first.close()
        second = node(2)
        accepted: list[Entry] = []
        second.signals.accepted.connect(accepted.append)
        await second.start()
        await second.local.departures.disconnects.drained()
        await second.configure({})  # It waits for the commit of the leave.
        assert [(name_of(event.user), event.joined) for event in _presence(accepted)] == [("ann", False)]
        assert (second.hub.connections, second.hub.channels) == ({}, {})
        await second.close()

    asyncio.run(life())


def _presence(accepted: list[Entry]) -> list[Presence]:
    return [entry.event for entry in accepted if isinstance(entry.event, Presence)]


async def move(outgoing: OutgoingConnections, incoming: IncomingConnections) -> None:
    """Have another process hold what has changed since the last time."""
    for record in outgoing.changes():
        incoming.receive(record)
    await incoming.apply(*incoming.changes())


def test_seats_move_to_another_process_with_their_holders() -> None:
    """However often one of both changes meanwhile; a stream that moves as well is sent the same events there."""

    async def life(scene: Scene) -> None:
        await scene.connect("c1")
        await scene.memberships.join_as("c1", ROOM, "ann", {})
        other = Scene()
        await other.node.start()
        outgoing = OutgoingConnections(scene.node.hub)
        incoming = IncomingConnections(other.node.hub, other.node.local)
        await move(outgoing, incoming)
        await scene.memberships.join_as("c1", "other", "bob", {})
        await move(outgoing, incoming)
        await scene.service.subscribe("c1", {"plain": {}})
        await move(outgoing, incoming)
        await scene.memberships.leave("c1", "other")
        await move(outgoing, incoming)
        scene.held("c1").sent_apart = {"plain": 0}
        for record in outgoing.positions(("e",), scene.clock.steady()):
            incoming.receive(record)
        incoming.position()
        holder, seat = other.held("c1"), scene.seat("c1")
        moved = other.seat("c1")
        assert (moved.id, moved.user, moved.protocol, moved.receiver) == (
            seat.id,
            seat.user,
            seat.protocol,
            holder,
        )
        assert holder.sent_apart == {"plain": 0}
        assert dict(holder.readable) == dict(scene.held("c1").readable)
        assert list(other.node.hub.all_registered()) == [holder, moved]
        assert {name: list(members) for name, members in other.node.hub.channels.items()} == {
            "plain": [holder],
            ROOM: [holder],
        }
        # That process counts its seats from 1 as well.
        drawn = {other.node.seats._next_id(holder) for _ in range(3)}
        assert seat.id not in drawn

    play(life)


@pytest.mark.parametrize("channels", [[ROOM], []])
def test_a_seat_that_belongs_to_nothing_is_restored_as_a_connection(channels: list[str]) -> None:
    """Its holder is not there, or it was in no channel: it waits for its end as all that were restored."""

    async def life(scene: Scene) -> None:
        holders = ["c"] if not channels else []
        protocol = ClientProtocol(V07.name, PresenceAudience.ALWAYS)
        kept = [
            RestoredConnection(
                Member(conn_id, "ann", protocol), {} if conn_id == "c" else ranges, ReadRange.of(0), (0,)
            )
            for ranges in [{name: ReadRange.of(0) for name in channels}]
            for conn_id in (seat_id("c", 1), *holders)
        ]
        await scene.node.local.restored.hold(kept)
        assert list(scene.node.hub.connections) == [*holders, seat_id("c", 1)]
        assert scene.node.hub.seats == {}

    play(life)
