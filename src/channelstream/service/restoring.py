"""Puts the connections of the last run, or of another process, into the hub, where they wait for their streams."""

from collections.abc import Callable, Sequence

from channelstream.core.connection import Connection, Step
from channelstream.core.hub import Hub
from channelstream.core.seat import Seat, holder_id, is_seat_id
from channelstream.engines.members import RestoredConnection
from channelstream.slices import Slices


async def restore(kept: Sequence[RestoredConnection], hub: Hub, now: Callable[[], float]) -> None:
    """Restore connections without a deadline, in short turns of the event loop; seats after their holders.

    Args:
        now: a clock that never jumps, in seconds.
    """

    def add(each: RestoredConnection) -> None:
        connection = _add(each, hub)
        connection.private = each.private
        if each.client is not None:
            connection.opened_by(*each.client)
        for name, read_range in each.channels.items():
            hub.subscribe(connection, name, read_range)

    slices = Slices(now)
    await slices.each([each for each in kept if not is_seat_id(each.member.conn_id)], add)
    await slices.each([each for each in kept if is_seat_id(each.member.conn_id)], add)


def _add(each: RestoredConnection, hub: Hub) -> Connection:
    """Add a connection without channels to a hub. A seat without a holder, or a channel, is one that waits for its end."""
    member = each.member
    holder = hub.connections.get(holder_id(member.conn_id))
    if is_seat_id(member.conn_id) and holder is not None and len(each.channels) == 1:
        [channel] = each.channels
        seat = Seat(member.conn_id, member.user, holder, channel, each.offsets)
        hub.add_seat(seat)
        return seat
    connection = Connection(member.conn_id, member.user, member.protocol, each.offsets, None)
    connection.move(Step.RESTORE)
    hub.add(connection)
    return connection
