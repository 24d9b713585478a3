"""The members of channels of one application, for protocols whose members have names that count in one channel only.

Channels, connections and members are given by their names, as in `service.py`. A member of such a name is a seat
(`core/seat.py`) of the connection that joins. A user of the application that joins the same channel is a member as well.
"""

from collections.abc import Mapping
from typing import Any, Final

from channelstream.apps.keys import name_of
from channelstream.close_codes import CloseCode
from channelstream.core.client_protocol import ClientProtocol
from channelstream.core.connection import Connection
from channelstream.core.user import State, StateValue, UserUpdate
from channelstream.errors import Moved, Unavailable
from channelstream.service.service import Service
from channelstream.slices import in_turns

ANNOUNCED: Final[Mapping[str, Any]] = {"notify_presence": True}
"""The settings of a new channel whose first member has a name that counts there only."""
SLICE = 1_000
"""Members that are described in one loop turn."""


class Memberships:
    """Joins channels under names, and describes who is in them."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._node = service.node
        self._key = service.app.key

    async def open(self, conn_id: str, name: str, protocol: ClientProtocol) -> Connection:
        """Register a connection of a user of its own, who is forgotten with it.

        Args:
            conn_id: an id that no connection has had.
            name: shown for the user.
            protocol: that does not resume.

        Raises:
            TooManyRequests, Unavailable: there is no room for it, or it has ended meanwhile.
        """
        user, nothing, key = self._service.app.member_key("", name), UserUpdate({}, {}), self._key(conn_id)
        opened = await self._node.connect(key, user, protocol, {}, nothing, is_drawn=True)
        connection = self._node.connection(opened.conn_id)
        if connection is None:
            raise Unavailable("The connection has ended meanwhile; try again.")
        return connection

    async def join_as(
        self, conn_id: str, channel: str, member: str, state: Mapping[str, StateValue]
    ) -> bool | None:
        """Make a connection of this node a member of a channel under a name that counts there only.

        The connection receives presence events in the channel whatever its settings are, and none about its own member.

        Args:
            conn_id: of a connection whose protocol does not resume.
            channel: whose name does not contain `apps.keys.MARK`.
            member: the name, which several connections may have.
            state: what others see of the member; it counts if no other connection has that name there.

        Returns:
            False if it was in the channel under a name already: nothing has changed. None if it is not here.

        Raises:
            Invalid: it would have too many channels.
            TooManyRequests: the application has no room for more channels here.
            Unavailable: the engine is out of reach.
        """
        holder = self._service.connection(conn_id)
        if holder is None:
            return None
        user = self._service.app.member_key(channel, member)
        update = UserUpdate({}, {}, first=state)
        try:
            return await self._node.seats.take(holder, self._key(channel), user, update, ANNOUNCED)
        except Moved:
            return None

    def report_event(
        self, channel: str, event: str, data: str, socket: str | None, member: str | None
    ) -> None:
        """Report to webhooks that a client has sent an event to the others in a channel.

        Args:
            data: as text.
            socket: the public id of the client's connection.
            member: the name under which it is in the channel, if it has one.
        """
        user = None if member is None else self._service.app.member_key(channel, member)
        self._node.reports.client_event(self._key(channel), event, data, socket, user)

    async def leave(self, conn_id: str, channel: str) -> bool | None:
        """Let a connection leave a channel that it has joined by `join_as`.

        Returns:
            False if it was not in it. None if the connection is not here.

        Raises:
            Unavailable: the engine is out of reach.
        """
        holder = self._service.connection(conn_id)
        return None if holder is None else await self._node.seats.give_up(holder, self._key(channel))

    async def members(self, channel: str) -> tuple[dict[str, State], int]:
        """Return the members of a channel by their names, with the offset of the log that they are of (`MembersAt`).

        A user of the application and a member may have the same name: the first of both is returned.

        A client that is sent these members needs no presence event up to that offset. It needs the messages: it may have
        joined before.

        Raises:
            Unavailable: the engine is out of reach.
        """
        found = await self._node.member_states.of(self._key(channel))
        members: dict[str, State] = {}
        async for part in in_turns(found.members, SLICE):
            for key, state in part:
                members.setdefault(name_of(key), state)
        return members, found.offset

    async def end_in(self, channel: str, code: CloseCode, reason: str) -> int:
        """End all connections in a channel, at all nodes; return how many these were.

        Raises:
            Unavailable: a node has not answered; the call may have taken effect.
        """
        return await self._node.channel_ends.end_all(self._key(channel), code, reason)
