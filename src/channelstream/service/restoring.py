"""Puts the connections of the last run, or of another process, into the hub, where they wait for their streams."""

from collections.abc import Mapping, Sequence

from channelstream.close_codes import CloseCode
from channelstream.core.connection import Connection, Step
from channelstream.core.hub import Hub
from channelstream.core.seat import Seat, holder_id, is_seat_id
from channelstream.engines.base import Clock
from channelstream.engines.members import RestoredConnection
from channelstream.service.departures import Departures
from channelstream.service.limits import NodeLimits
from channelstream.slices import Slices


class RestoredConnections:
    """The connections that a node finds when it starts, and until when each of them waits for a stream."""

    def __init__(self, hub: Hub, departures: Departures, clock: Clock, limits: NodeLimits) -> None:
        self._hub = hub
        self._departures = departures
        self._clock = clock
        self._limits = limits

    async def hold(self, kept: Sequence[RestoredConnection]) -> None:
        """Hold connections, in short turns of the event loop. They have no deadline yet.

        Needs no locks: nothing is served yet.
        """

        def add(each: RestoredConnection) -> None:
            connection = self._add(each)
            connection.private = each.private
            if each.client is not None:
                connection.opened_by(*each.client)
            for name, read_range in each.channels.items():
                self._hub.subscribe(connection, name, read_range)

        slices = Slices(self._clock.steady)
        # Seats after their holders.
        await slices.each([each for each in kept if not is_seat_id(each.member.conn_id)], add)
        await slices.each([each for each in kept if is_seat_id(each.member.conn_id)], add)

    def _add(self, each: RestoredConnection) -> Connection:
        """Add a connection without channels. A seat without a holder, or a channel, is one that waits for its end."""
        member = each.member
        holder = self._hub.connections.get(holder_id(member.conn_id))
        if is_seat_id(member.conn_id) and holder is not None and len(each.channels) == 1:
            [channel] = each.channels
            seat = Seat(member.conn_id, member.user, holder, channel, each.offsets)
            self._hub.add_seat(seat)
            return seat
        connection = Connection(member.conn_id, member.user, member.protocol, each.offsets, None)
        connection.move(Step.RESTORE)
        self._hub.add(connection)
        return connection

    async def expect_streams(self) -> None:
        """Let all that have neither a stream nor a deadline end unless a stream attaches within `restored_s`."""
        deadline_s = self._clock.steady() + self._limits.restored_s

        def expect(connection: Connection) -> None:
            if connection.stream is not None or connection.deadline_s is not None:
                return
            if connection.protocol.name in self._limits.not_resuming:
                # Its client comes back with another connection, and this one is a member that is not there.
                self._departures.end_soon(
                    connection, CloseCode.UNKNOWN_CONNECTION, "its client cannot resume"
                )
            else:
                self._departures.expire_at(connection, deadline_s)

        await Slices(self._clock.steady).each(list(self._hub.connections.values()), expect)

    def wait_for_streams(self, left_s: Mapping[str, float]) -> None:
        """Let connections that had no stream in another process end unless one attaches within so many seconds each."""
        now_s = self._clock.steady()
        for conn_id, seconds in left_s.items():
            self._departures.expire_at(self._hub.connections[conn_id], now_s + seconds)
