"""A seat: a second identity under which a stream is a member of one channel.

Some protocols give the members of a channel names that count in this channel only. A connection has one user for ever, so
such a membership is a connection of its own, with a user of its own: the seat. Engines register it as any other connection,
so leases, repairs, stored rows and presence need nothing new for it. It has no stream and no deadline. The connection that
holds it is sent its events, and it ends with that connection.

In the hub the holder stands among the members of the channel, and not the seat. So a delivery is the same with seats.
"""

from functools import cache

from channelstream.core.client_protocol import ClientProtocol, PresenceAudience
from channelstream.core.connection import Connection
from channelstream.core.position import Offsets

MARK = "\x1e"
"""Between the id of the holder and the number of the seat; no id of a client has it."""


def seat_id(holder_id: str, number: int) -> str:
    """Return the connection id of a seat.

    Args:
        number: that no other seat of the holder has had.
    """
    return f"{holder_id}{MARK}{number}"


def is_seat_id(conn_id: str) -> bool:
    """Whether a connection id is one of a seat."""
    return MARK in conn_id


def holder_id(conn_id: str) -> str:
    """Return the id of the holder of a seat; of any other connection its own."""
    return conn_id.partition(MARK)[0]


@cache
def _with_all_presence(protocol: ClientProtocol) -> ClientProtocol:
    """Return a protocol whose members receive presence events in every channel; one object for all of them."""
    return protocol._replace(presence=PresenceAudience.ALWAYS)


class Seat(Connection):
    """A connection without a stream, by which another one is a member of a channel; it receives presence events there.

    Attributes:
        holder: the connection that is sent its events.
        channel: the one channel that it is for.
    """

    __slots__ = ("channel", "holder")

    def __init__(self, conn_id: str, user: str, holder: Connection, channel: str, delivered: Offsets) -> None:
        super().__init__(conn_id, user, _with_all_presence(holder.protocol), delivered, None)
        self.holder = holder
        self.channel = channel

    @property
    def receiver(self) -> Connection:
        return self.holder
