"""The tables of the admin pages: channels, users, connections and nodes."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from channelstream.admin.listing import Listing, PageRequest
from channelstream.admin.shown import KEYS, connection_row, state_of, transport_of, waiting_bytes
from channelstream.core.channel import Channel
from channelstream.core.connection import Connection
from channelstream.core.node_status import NodeStatus
from channelstream.core.timestamps import stamp
from channelstream.core.user import User
from channelstream.node import Node


def _channel_row(channel: Channel) -> dict[str, Any]:
    settings = channel.settings
    return {
        "name": channel.name,
        "users": channel.user_count,
        "connections": channel.connections,
        "history": len(channel.history.entries),
        "log": len(channel.log.entries),
        "last_active": stamp(channel.last_active_s),
        "marks": [
            mark
            for mark, is_on in (
                ("presence", settings.notify_presence),
                ("state", settings.notify_state),
                ("history", settings.store_history),
            )
            if is_on
        ],
    }


def _user_row(user: User) -> dict[str, Any]:
    return {
        "name": user.name,
        "connections": user.connections,
        "channels": len(user.channels),
        "state": state_of(user.state, KEYS),
        "last_active": stamp(user.last_active_s),
    }


CHANNELS: Listing[Channel] = Listing(
    search_text=lambda channel: channel.name,
    columns={
        "name": lambda channel: channel.name.casefold(),
        "users": lambda channel: channel.user_count,
        "connections": lambda channel: channel.connections,
        "history": lambda channel: len(channel.history.entries),
        "log": lambda channel: len(channel.log.entries),
        "last_active": lambda channel: channel.last_active_s,
    },
    to_row=_channel_row,
)
USERS: Listing[User] = Listing(
    search_text=lambda user: user.name,
    columns={
        "name": lambda user: user.name.casefold(),
        "connections": lambda user: user.connections,
        "channels": lambda user: len(user.channels),
        "last_active": lambda user: user.last_active_s,
    },
    to_row=_user_row,
)
CONNECTIONS: Listing[Connection] = Listing(
    search_text=lambda connection: f"{connection.id} {connection.user}",
    columns={
        "id": lambda connection: connection.id,
        "user": lambda connection: connection.user.casefold(),
        "state": lambda connection: connection.state.value,
        "transport": transport_of,
        "channels": lambda connection: len(connection.channels),
        "waiting": waiting_bytes,
    },
    to_row=connection_row,
)


NODES: Listing[NodeStatus] = Listing(
    search_text=lambda node: f"{node.label} {node.id}",
    columns={
        "label": lambda node: node.label,
        "connections": lambda node: node.connections,
        "last_beat": lambda node: node.heartbeat_s,
    },
    to_row=lambda node: {
        "label": node.label,
        "id": node.id,
        "connections": node.connections,
        "last_beat": stamp(node.heartbeat_s),
        "is_alive": node.is_alive,
    },
)


class Tables:
    """Pages of the tables. One page is built at a time, so that concurrent requests do not add up in one event loop turn."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._lock = asyncio.Lock()

    async def page(self, name: str, request: PageRequest) -> dict[str, Any] | None:
        """Return a page of the table of this name, or None if there is none."""
        make = _PAGES.get(name)
        if make is None:
            return None
        async with self._lock:
            return await make(self._node, request)


async def _channels(node: Node, request: PageRequest) -> dict[str, Any]:
    return await CHANNELS.page(await node.channels(None, with_users=False), request)


async def _users(node: Node, request: PageRequest) -> dict[str, Any]:
    return await USERS.page(await node.users(None), request)


async def _connections(node: Node, request: PageRequest) -> dict[str, Any]:
    connections: Sequence[Connection] = list(node.hub.connections.values())
    return await CONNECTIONS.page(connections, request)


async def _nodes(node: Node, request: PageRequest) -> dict[str, Any]:
    return await NODES.page(await node.nodes(), request)


_PAGES: dict[str, Callable[[Node, PageRequest], Awaitable[dict[str, Any]]]] = {
    "channels": _channels,
    "users": _users,
    "connections": _connections,
    "nodes": _nodes,
}
