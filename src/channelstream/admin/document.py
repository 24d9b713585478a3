"""The document of `/admin/admin.json`: that of 0.7.1, with additional figures."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from channelstream import __version__
from channelstream.admin.sampler import Loop
from channelstream.api.call import Call
from channelstream.api.info import channels_info
from channelstream.api.schemas import InfoOptions
from channelstream.apps.keys import name_of
from channelstream.core.connection import Connection
from channelstream.core.user import User
from channelstream.service import Service
from channelstream.slices import STEP, Slices
from channelstream.transports.streams import Streams


class Document:
    """Describes an application on a node at once."""

    def __init__(self, service: Service, streams: Streams, loop: Loop) -> None:
        self._service = service
        self._loop = loop
        self._streams = streams
        self._started_s = service.clock.steady()

    async def __call__(self) -> dict[str, Any]:
        service, node = self._service, self._service.node
        call = Call.internal(service)
        info = await channels_info(call, None, InfoOptions())
        users = await service.users(None)
        connections = await service.connections()
        return {
            "remembered_user_count": len(users),
            "unique_user_count": await _user_count(connections, call.slices),
            "total_connections": len(connections),
            "total_channels": len(info.channels),
            "total_messages": node.hub.deliveries,
            "total_unique_messages": node.published,
            "open_streams": self._streams.open,
            "channels": info.channels,
            "users": await call.slices.each(users, self._user),
            "uptime": self.uptime(),
            "version": __version__,
            "engine": node.engine_name,
            **self._loop.figures(),
            "latest_slow_turns": self._loop.rows(),
        }

    def _user(self, user: User) -> dict[str, Any]:
        name = name_of(user.name)
        connections = self._service.connections_of(name)
        return {
            "user": name,
            "state": user.state,
            "uuid": user.id,
            "connections": sorted(name_of(connection.id) for connection in connections),
        }

    def uptime(self) -> str:
        """Return how long the node has run, in the format of 0.7.1: H:MM:SS."""
        return str(timedelta(seconds=int(self._service.clock.steady() - self._started_s)))


async def _user_count(connections: Iterable[Connection], turns: Slices) -> int:
    """Return how many users have these connections; counts in short event loop turns."""
    users = set()
    for number, connection in enumerate(connections):
        users.add(connection.user)
        if number % STEP == 0:
            await turns.due()
    return len(users)
