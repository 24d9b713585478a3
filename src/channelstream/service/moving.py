"""The connections of a node, in the form in which they move to another process.

The process that takes them over is the same node for all that clients and applications can see: a connection has the
channels, the read ranges and the position that it had, and nobody parts or joins.

What lasts of a connection is copied while calls are served, and again where it has changed since. At the end, when all
streams are suspended, nearly all connections have the position of the node, and no deadline: the others are named.
"""

from collections.abc import Iterator
from typing import NamedTuple

import msgspec
from msgspec import Struct

from channelstream.core.client_protocol import ClientProtocol, PresenceAudience
from channelstream.core.connection import Connection
from channelstream.core.hub import Hub
from channelstream.core.position import Offsets, ReadRange
from channelstream.core.stream_client import StreamClient
from channelstream.engines.members import Leaving, Member, RestoredConnection, member_of
from channelstream.service.local import LocalConnections


class MovedConnection(Struct, frozen=True, array_like=True, tag="connection"):
    """What lasts of a connection; it replaces what came before under its id.

    Attributes:
        protocol: the name of its protocol, and where its clients receive presence events.
        channels: each with the range of its log that may be read.
        private: the same of its user's private messages.
        client: who opened its present or last stream.
    """

    conn_id: str
    user: str
    protocol: tuple[str, int]
    channels: dict[str, ReadRange]
    private: ReadRange
    client: tuple[str, str, float] | None


class EndedConnection(Struct, frozen=True, array_like=True, tag="ended"):
    """A connection that is not there any more."""

    conn_id: str


class NodePosition(Struct, frozen=True, array_like=True, tag="node"):
    """The position up to which the clients of all connections were sent everything, except of those that are named.

    Attributes:
        epochs: when the first stream was suspended; none from a version that did not name them.
    """

    offsets: Offsets
    epochs: tuple[str, ...] = ()


class ConnectionPosition(Struct, frozen=True, array_like=True, tag="position"):
    """A connection that has no stream, or another position than the node, or whose client was sent older events.

    Attributes:
        left_s: after this time it ends unless a stream attaches, in seconds; None if it has a stream.
        sent_apart: that of the connection.
    """

    conn_id: str
    delivered: Offsets
    left_s: float | None
    sent_apart: dict[str, int] = {}


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(
    MovedConnection | EndedConnection | NodePosition | ConnectionPosition
).decode


class _Copied(NamedTuple):
    """A connection as it was copied."""

    connection: Connection
    private: ReadRange
    channels: dict[str, ReadRange]
    client: tuple[bytes, str]


class OutgoingConnections:
    """The connections here, of which another process has a copy."""

    def __init__(self, hub: Hub) -> None:
        """Begin; nothing is copied yet."""
        self._hub = hub
        self._copied: dict[str, _Copied] = {}

    def changes(self) -> Iterator[bytes]:
        """Yield records of what has changed since the last call; the hub may change between two of them.

        A connection that is being registered, or is joining, is left to the next call.
        """
        hub, copied = self._hub, self._copied
        for conn_id in [each for each in copied if hub.registered(each) is None]:
            del copied[conn_id]
            yield _encode(EndedConnection(conn_id))
        for connection in hub.all_registered():
            before = copied.get(connection.id)
            if (
                before is not None
                and before.connection is connection
                and before.private == connection.private
                and before.channels == connection.channels
                and before.client == connection.packed_client
            ):
                continue
            if not connection.joining:
                channels = dict(connection.channels)
                copied[connection.id] = _Copied(
                    connection, connection.private, channels, connection.packed_client
                )
                for seat in (connection.seats or {}).values():
                    # It is restored again after its holder, and follows in this call.
                    copied.pop(seat.id, None)
                yield _encode(_moved(connection))

    def positions(self, epochs: tuple[str, ...], now_s: float) -> Iterator[bytes]:
        """Yield records of the positions, after the last changes; all streams are suspended.

        That of a seat is its holder's.
        """
        offsets = self._hub.offsets
        yield _encode(NodePosition(offsets, epochs))
        for connection in self._hub.connections.values():
            deadline_s = connection.deadline_s
            apart = dict(connection.sent_apart)
            if deadline_s is not None or connection.delivered != offsets or apart:
                left_s = None if deadline_s is None else max(0.0, deadline_s - now_s)
                yield _encode(ConnectionPosition(connection.id, connection.delivered, left_s, apart))


def _moved(connection: Connection) -> MovedConnection:
    protocol = connection.protocol
    return MovedConnection(
        connection.id,
        connection.user,
        (protocol.name, int(protocol.presence)),
        connection.channels,
        connection.private,
        connection.client,
    )


class IncomingConnections:
    """The connections of another process, as far as they are here.

    Attributes:
        epochs: those of their positions, if they are named.
    """

    def __init__(self, hub: Hub, local: LocalConnections) -> None:
        self.epochs: tuple[str, ...] = ()
        self._hub = hub
        self._local = local
        self._changes: dict[str, MovedConnection | None] = {}
        self._positions: list[ConnectionPosition] = []
        self._offsets: Offsets | None = None
        self._protocols: dict[tuple[str, int], ClientProtocol] = {}
        self._texts: dict[str, str] = {}

    def receive(self, record: bytes) -> None:
        """Take a record.

        Raises:
            ValueError: it is none of this version's.
        """
        match _decode(record):
            case MovedConnection() as moved:
                self._changes[moved.conn_id] = moved
            case EndedConnection(conn_id):
                self._changes[conn_id] = None
            case NodePosition(offsets, epochs):
                self._offsets, self.epochs = offsets, epochs
            case ConnectionPosition() as position:
                self._positions.append(position)

    def changes(self) -> tuple[list[Leaving], list[RestoredConnection]]:
        """Return what the hub does not have as it is now, and what it does not have yet; both are for `apply`."""
        changes, self._changes = self._changes, {}
        left = [
            Leaving(member_of(connection), list(connection.channels))
            for conn_id in changes
            if (connection := self._hub.registered(conn_id)) is not None
        ]
        return left, [self._restored(each) for each in changes.values() if each is not None]

    async def apply(self, left: list[Leaving], connections: list[RestoredConnection]) -> None:
        """Hold these connections and no longer those."""
        for each in left:
            if (connection := self._hub.registered(each.member.conn_id)) is not None:
                self._local.drop(connection)
        await self._local.restored.hold(connections)

    def position(self) -> None:
        """Set the positions, and how long connections wait for a stream.

        Raises:
            ValueError: they are not complete.
        """
        if self._offsets is None:
            raise ValueError("no position")
        for connection in self._hub.connections.values():
            connection.delivered = self._offsets
        left_s: dict[str, float] = {}
        for each in self._positions:
            connection = self._hub.connections[each.conn_id]
            connection.delivered = each.delivered
            if each.sent_apart:
                connection.sent_apart = each.sent_apart
            if each.left_s is not None:
                left_s[each.conn_id] = each.left_s
        self._local.restored.wait_for_streams(left_s)

    def _restored(self, moved: MovedConnection) -> RestoredConnection:
        member = Member(moved.conn_id, self._shared(moved.user), self._protocol(moved.protocol))
        channels = {self._shared(name): each for name, each in moved.channels.items()}
        client = moved.client and StreamClient(*moved.client)
        if client is not None:
            client = client._replace(agent=self._shared(client.agent))
        return RestoredConnection(member, channels, moved.private, self._hub.offsets, client)

    def _protocol(self, protocol: tuple[str, int]) -> ClientProtocol:
        """Return the one object for all connections of a protocol."""
        found = self._protocols.get(protocol)
        if found is None:
            name, presence = protocol
            found = self._protocols[protocol] = ClientProtocol(name, PresenceAudience(presence))
        return found

    def _shared(self, name: str) -> str:
        """Return the one text for all connections of a user, in a channel, or of a user agent."""
        return self._texts.setdefault(name, name)
