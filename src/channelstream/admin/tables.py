"""The tables of the admin pages: channels, users, connections and nodes."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from channelstream.admin.listing import Asked, Listing
from channelstream.admin.shown import KEYS, connection_row, state_of, transport_of, waiting_bytes
from channelstream.core.channel import Channel
from channelstream.core.connection import Connection
from channelstream.core.timestamps import stamp
from channelstream.core.user import User
from channelstream.engines.base import NodeStatus
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
            words
            for words, is_on in (
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
    words=lambda channel: channel.name,
    columns={
        "name": lambda channel: channel.name.casefold(),
        "users": lambda channel: channel.user_count,
        "connections": lambda channel: channel.connections,
        "history": lambda channel: len(channel.history.entries),
        "log": lambda channel: len(channel.log.entries),
        "last_active": lambda channel: channel.last_active_s,
    },
    tell=_channel_row,
)
USERS: Listing[User] = Listing(
    words=lambda user: user.name,
    columns={
        "name": lambda user: user.name.casefold(),
        "connections": lambda user: user.connections,
        "channels": lambda user: len(user.channels),
        "last_active": lambda user: user.last_active_s,
    },
    tell=_user_row,
)
CONNECTIONS: Listing[Connection] = Listing(
    words=lambda connection: f"{connection.id} {connection.user}",
    columns={
        "id": lambda connection: connection.id,
        "user": lambda connection: connection.user.casefold(),
        "state": lambda connection: connection.state.value,
        "transport": transport_of,
        "channels": lambda connection: len(connection.channels),
        "waiting": waiting_bytes,
    },
    tell=connection_row,
)


NODES: Listing[NodeStatus] = Listing(
    words=lambda node: f"{node.label} {node.id}",
    columns={
        "label": lambda node: node.label,
        "connections": lambda node: node.connections,
        "last_beat": lambda node: node.heartbeat_s,
    },
    tell=lambda node: {
        "label": node.label,
        "id": node.id,
        "connections": node.connections,
        "last_beat": stamp(node.heartbeat_s),
        "is_alive": node.is_alive,
    },
)


class Tables:
    """Pages of the tables. One page is made at a time: many wishes at once cost no more than one after another."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._turn = asyncio.Lock()

    async def page(self, name: str, asked: Asked) -> dict[str, Any] | None:
        """Return a page of the table of this name; None when there is none."""
        make = _PAGES.get(name)
        if make is None:
            return None
        async with self._turn:
            return await make(self._node, asked)


async def _channels(node: Node, asked: Asked) -> dict[str, Any]:
    return await CHANNELS.page(await node.engine.channels(None, with_users=False), asked)


async def _users(node: Node, asked: Asked) -> dict[str, Any]:
    return await USERS.page(await node.engine.users(None), asked)


async def _connections(node: Node, asked: Asked) -> dict[str, Any]:
    connections: Sequence[Connection] = list(node.hub.connections.values())
    return await CONNECTIONS.page(connections, asked)


async def _nodes(node: Node, asked: Asked) -> dict[str, Any]:
    return await NODES.page(await node.engine.nodes(), asked)


_PAGES: dict[str, Callable[[Node, Asked], Awaitable[dict[str, Any]]]] = {
    "channels": _channels,
    "users": _users,
    "connections": _connections,
    "nodes": _nodes,
}
