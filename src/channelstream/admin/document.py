"""The document of `/admin/admin.json`: that of 0.7.1, with additional figures."""

from datetime import timedelta
from typing import Any

from channelstream import __version__
from channelstream.admin.sampler import Loop
from channelstream.api.call import Call
from channelstream.api.info import channels_info
from channelstream.api.schemas import InfoOptions
from channelstream.core.user import User
from channelstream.node import Node
from channelstream.transports.streams import Streams


class Document:
    """Describes a whole node at once."""

    def __init__(self, node: Node, streams: Streams, loop: Loop) -> None:
        self._node = node
        self._loop = loop
        self._streams = streams
        self._started_s = node.clock.steady()

    async def __call__(self) -> dict[str, Any]:
        node = self._node
        call = Call.internal(node)
        info = await channels_info(call, None, InfoOptions())
        users = await node.users(None)
        return {
            "remembered_user_count": len(users),
            "unique_user_count": len(node.hub.users),
            "total_connections": len(node.hub.connections),
            "total_channels": len(info["channels"]),
            "total_messages": node.hub.deliveries,
            "total_unique_messages": node.published,
            "open_streams": self._streams.open,
            "channels": info["channels"],
            "users": await call.slices.each(users, self._user),
            "uptime": self.uptime(),
            "version": __version__,
            "engine": node.engine_name,
            **self._loop.figures(),
            "latest_slow_turns": self._loop.rows(),
        }

    def _user(self, user: User) -> dict[str, Any]:
        connections = self._node.hub.users.get(user.name, ())
        return {
            "user": user.name,
            "state": user.state,
            "uuid": user.id,
            "connections": sorted(connection.id for connection in connections),
        }

    def uptime(self) -> str:
        """Return how long the node has run, in the format of 0.7.1: H:MM:SS."""
        return str(timedelta(seconds=int(self._node.clock.steady() - self._started_s)))
