"""The connections of a node, in the form in which they move to another process.

The process that takes them over is the same node for all that clients and applications can see: a connection has the
channels, the read ranges and the position that it had, and nobody parts or joins.
"""

from collections.abc import Iterable

import msgspec
from msgspec import Struct

from channelstream.core.client_protocol import ClientProtocol, PresenceAudience
from channelstream.core.connection import Connection
from channelstream.core.position import Offsets, ReadRange
from channelstream.core.stream_client import StreamClient
from channelstream.engines.members import Member, RestoredConnection


class MovedConnection(Struct, frozen=True, array_like=True):
    """A connection on its way.

    Attributes:
        protocol: the name of its protocol, and where its clients receive presence events.
        channels: each with the range of its log that may be read.
        private: the same of its user's private messages.
        delivered: the position up to which its client was sent everything.
        left_s: after this time it ends unless a stream attaches, in seconds; None while it has a stream.
        client: who opened its present or last stream.
    """

    conn_id: str
    user: str
    protocol: tuple[str, int]
    channels: dict[str, ReadRange]
    private: ReadRange
    delivered: Offsets
    left_s: float | None
    client: tuple[str, str, float] | None


encode_moved = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(MovedConnection).decode


def moved(connection: Connection, now_s: float) -> MovedConnection:
    """Return a connection that is suspended, for another process."""
    deadline_s = connection.deadline_s
    return MovedConnection(
        connection.id,
        connection.user,
        (connection.protocol.name, int(connection.protocol.presence)),
        connection.channels,
        connection.private,
        connection.delivered,
        None if deadline_s is None else max(0.0, deadline_s - now_s),
        connection.client,
    )


def read_moved(records: Iterable[bytes]) -> tuple[list[RestoredConnection], dict[str, float | None]]:
    """Return the connections of records, and by id how long each waits for its stream.

    Raises:
        ValueError: a record is none of this version's.
    """
    protocols: dict[tuple[str, int], ClientProtocol] = {}
    agents: dict[str, str] = {}  # Each text is there once, as in the process before.
    connections, left_s = list[RestoredConnection](), dict[str, float | None]()
    for record in records:
        each = _decode(record)
        protocol = protocols.get(each.protocol)
        if protocol is None:
            name, presence = each.protocol
            protocol = protocols[each.protocol] = ClientProtocol(name, PresenceAudience(presence))
        member = Member(each.conn_id, each.user, protocol)
        client = each.client and StreamClient(*each.client)
        if client is not None:
            client = client._replace(agent=agents.setdefault(client.agent, client.agent))
        connections.append(RestoredConnection(member, each.channels, each.private, each.delivered, client))
        left_s[each.conn_id] = each.left_s
    return connections, left_s
