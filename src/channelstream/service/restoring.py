"""Puts the connections of the last run, or of another process, into the hub, where they wait for their streams."""

from collections.abc import Callable, Sequence

from channelstream.core.connection import Connection, Step
from channelstream.core.hub import Hub
from channelstream.engines.members import RestoredConnection
from channelstream.slices import Slices


async def restore(kept: Sequence[RestoredConnection], hub: Hub, now: Callable[[], float]) -> None:
    """Restore connections without a deadline, in short turns of the event loop.

    Args:
        now: a clock that never jumps, in seconds.
    """

    def add(each: RestoredConnection) -> None:
        member = each.member
        connection = Connection(member.conn_id, member.user, member.protocol, each.offsets, None)
        connection.move(Step.RESTORE)
        connection.private = each.private
        if each.client is not None:
            connection.opened_by(*each.client)
        hub.add(connection)
        for name, read_range in each.channels.items():
            hub.subscribe(connection, name, read_range)

    await Slices(now).each(kept, add)
