"""Registers connections, or finds those that have their ids already, here or at another node.

Only under the lock of an id (`locks.py`) is it certain that this node has no connection with it, and only the engine knows
that no other node has: it refuses an id that is taken. Then the connection is looked for again.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from channelstream.core.hub import Hub
from channelstream.core.user import User, UserUpdate
from channelstream.engines.base import Directory
from channelstream.engines.members import Member
from channelstream.errors import Moved, Unavailable
from channelstream.service.commands import Reconnect, Subscribe, parse_since
from channelstream.service.handover import Handover
from channelstream.service.local import LocalConnections

Channels = dict[str, dict[str, Any]]
"""Channels to join, each with the settings that it gets if it is new."""
ATTEMPTS = 3
"""Most attempts of a `/connect` to create a connection, or to find the one that other calls create and end meanwhile."""


class Opened(NamedTuple):
    """A connection that `connect` made or found, with all its channels, sorted."""

    conn_id: str
    user: User
    channels: list[str]


class Connecting:
    """The calls of `/connect` at a node."""

    def __init__(
        self,
        directory: Directory,
        hub: Hub,
        local: LocalConnections,
        handover: Handover,
        check_room: Callable[[str, Channels], None],
    ) -> None:
        """Create the part of a node.

        Args:
            check_room: raises Unavailable or TooManyRequests if there is no room for a new connection in these channels.
        """
        self._directory = directory
        self._hub = hub
        self._local = local
        self._handover = handover
        self._check_room = check_room

    async def connect(
        self,
        member: Member,
        channels: Channels,
        update: UserUpdate,
        since: str,
        *,
        is_drawn: bool,
    ) -> Opened:
        """Register a connection, or add channels to the one that has its id (`Node.connect`).

        Args:
            is_drawn: its id is new, so it is not looked for first.
        """
        if not is_drawn and (known := await self._reconnect(member, channels, update, since)):
            return known
        for _ in range(ATTEMPTS):
            async with self._local.locks.of(member.conn_id):
                opened = await self._open(member, channels, update, since)
            if opened := opened or await self._reconnect(member, channels, update, since):
                return opened
        raise Unavailable("Other calls create and end this connection at the moment; try again.")

    def connect_at_once(
        self, member: Member, channels: Channels, update: UserUpdate, since: str
    ) -> User | None:
        """Register a connection whose id is new, without a wait; None if that takes one: nothing has happened then."""
        self._check_room(member.conn_id, channels)
        return self._local.register_at_once(member, update, channels, parse_since(since))

    async def _open(
        self, member: Member, channels: Channels, update: UserUpdate, since: str
    ) -> Opened | None:
        """Register a connection; None if its id is in use by now, here or at another node."""
        if self._local.get(member.conn_id) is not None:
            return None
        self._check_room(member.conn_id, channels)
        connection = self._local.make(member.conn_id, member.user, member.protocol)
        try:
            user = await self._local.register(connection, update, channels, parse_since(since))
        except Moved:
            return None
        return None if user is None else Opened(connection.id, user, sorted(connection.channels))

    async def _reconnect(
        self, member: Member, channels: Channels, update: UserUpdate, since: str
    ) -> Opened | None:
        asked = Subscribe(member.conn_id, channels, Reconnect.of(member.user, update), since)
        answer = await self._handover.dispatch(asked)
        if answer is None:
            return None
        users = await self._directory.users([member.user], with_channels=False)
        if not users:
            raise Unavailable("The user of this connection was removed; connect again.")
        return Opened(member.conn_id, users[0], answer.channels)
