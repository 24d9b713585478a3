"""What of the connections of a node is copied to another process, and when again."""

from collections.abc import Callable

import pytest
from tests.service.test_seats import Scene, play

from channelstream.core.connection import Connection
from channelstream.core.hub import Hub
from channelstream.core.position import ReadRange
from channelstream.service.moving import IncomingConnections, OutgoingConnections
from channelstream.wire.channelstream import V07
from channelstream.wire.protocols import PROTOCOLS

OTHER = ReadRange(5, 4)


def held(hub: Hub, user: str = "ann") -> Connection:
    connection = Connection("c1", user, V07, (7,), 103.0)
    hub.add(connection)
    hub.subscribe(connection, "a", ReadRange.of(7))
    return connection


def log_lost(hub: Hub, connection: Connection) -> None:
    """Its user's shard alone has lost its log."""
    connection.private = OTHER


def channel_lost(hub: Hub, connection: Connection) -> None:
    connection.channels["a"] = OTHER


def stream_opened(hub: Hub, connection: Connection) -> None:
    connection.opened_by("::1", "curl", 2.0)


def replaced(hub: Hub, connection: Connection) -> None:
    """Another user has it under the same id."""
    hub.unsubscribe(connection, "a")
    hub.remove(connection)
    held(hub, "bob")


@pytest.mark.parametrize("change", [log_lost, channel_lost, stream_opened, replaced])
def test_a_connection_is_copied_again_when_it_has_changed(change: Callable[[Hub, Connection], None]) -> None:
    """And not as long as it is the same."""
    hub = Hub(PROTOCOLS.formats, lambda: None)
    connection = held(hub)
    outgoing = OutgoingConnections(hub)
    assert [len(list(outgoing.changes())) for _ in range(2)] == [1, 0]
    change(hub, connection)
    assert [len(list(outgoing.changes())) for _ in range(2)] == [1, 0]


def test_a_connection_keeps_a_position_of_its_own() -> None:
    """One that is behind the node; all others have the position of the node."""

    async def life(scene: Scene) -> None:
        for conn_id in ("c1", "c2"):
            await scene.connect(conn_id)
        scene.node.hub.offsets = (9,)
        for conn_id, offset in (("c1", 7), ("c2", 9)):
            scene.held(conn_id).delivered, scene.held(conn_id).deadline_s = (offset,), None
        other = Scene()
        await other.node.start()
        outgoing = OutgoingConnections(scene.node.hub)
        incoming = IncomingConnections(other.node.hub, other.node.local)
        for record in outgoing.changes():
            incoming.receive(record)
        await incoming.apply(*incoming.changes())
        for record in outgoing.positions(("e",), scene.clock.steady()):
            incoming.receive(record)
        incoming.position()
        assert [other.held(conn_id).delivered for conn_id in ("c1", "c2")] == [(7,), (9,)]

    play(life)


def test_a_node_copies_once_and_then_what_has_changed() -> None:
    """Also that a connection has ended since it was copied; after a move that failed it begins again."""

    async def life(scene: Scene) -> None:
        move = scene.node.move
        await scene.connect("c1")
        await scene.connect("c2")
        assert [len(list(move.copied_connections())) for _ in range(2)] == [2, 0]
        scene.node.local.drop(scene.held("c1"))
        assert [len(list(move.copied_connections())) for _ in range(2)] == [1, 0]
        await move.proceed()
        assert len(list(move.copied_connections())) == 1

    play(life)
