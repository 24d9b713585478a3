"""The document of `/admin/admin.json`: that of 0.7.1, with additional figures."""

from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta
from typing import Any

from channelstream import __version__
from channelstream.admin.overview import Overview
from channelstream.api.call import Call
from channelstream.api.info import channels_info
from channelstream.api.schemas import InfoOptions
from channelstream.apps.keys import is_member_key, name_of
from channelstream.core.user import User
from channelstream.service import Service
from channelstream.slices import STEP, Slices


class Document:
    """Describes an application at all nodes at once.

    Args:
        overview: the figures of all nodes.
        turns: reads the slow turns of all nodes.
    """

    def __init__(
        self, service: Service, overview: Overview, turns: Callable[[], Awaitable[dict[str, Any]]]
    ) -> None:
        self._service = service
        self._overview = overview
        self._turns = turns

    async def __call__(self) -> dict[str, Any]:
        service = self._service
        call = Call.internal(service)
        info = await channels_info(call, None, InfoOptions())
        users, online, connections = await _counted(await service.users_and_members(), call.slices)
        figures = await self._overview.figures()
        return {
            "remembered_user_count": len(users),
            "unique_user_count": online,
            "total_connections": connections,
            "total_channels": len(info.channels),
            "total_messages": figures["deliveries"],
            "total_unique_messages": figures["published"],
            "open_streams": figures["streams"],
            "channels": info.channels,
            "users": await call.slices.each(users, self._user),
            "uptime": str(timedelta(seconds=figures["uptime_s"])),
            "version": __version__,
            "engine": service.node.engine_name,
            **{name: figures[name] for name in ("slow_turns", "longest_turn_ms", "pauses")},
            "latest_slow_turns": (await self._turns())["rows"],
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


async def _counted(everyone: Iterable[User], turns: Slices) -> tuple[list[User], int, int]:
    """Return the users whose names count everywhere, how many of all are connected, and the number of their connections.

    Clients of Pusher count, as in the other figures. It takes short event loop turns.
    """
    users: list[User] = []
    online = connections = 0
    for number, user in enumerate(everyone):
        if not is_member_key(user.name):
            users.append(user)
        online += user.connections > 0
        connections += user.connections
        if number % STEP == 0:
            await turns.due()
    return users, online, connections
