"""What the API tells about channels and their users: `/info` and the `channels_info` of other answers."""

from collections.abc import Sequence
from typing import Any

from msgspec import Raw
from msgspec.structs import asdict

from channelstream.api.schemas import InfoOptions
from channelstream.core.channel import Channel
from channelstream.core.codec import item
from channelstream.core.events import Dialect
from channelstream.core.position import Position
from channelstream.core.timestamps import stamp
from channelstream.core.user import User
from channelstream.node import Node


async def channels_info(node: Node, names: Sequence[str] | None, options: InfoOptions) -> dict[str, Any]:
    """Describe channels; None means all. Unknown names are left out."""
    # Before the channels are read: what is accepted meanwhile is left to the stream that resumes from here.
    position = await node.engine.head()
    channels = await _chosen(node, names, options, options.include_users)
    users = await _members(node, channels) if options.include_users else {}
    return {
        "channels": {channel.name: await _channel(channel, options, position, node) for channel in channels},
        "users": [{"user": user.name, "state": _state(user, options)} for user in users.values()],
        "position": str(position),
    }


async def seed_info(node: Node, options: InfoOptions) -> dict[str, Any]:
    """Describe channels as the 0.2 program did; its users are objects, the other keys those of 0.7."""
    channels = await _chosen(node, options.channels, options, with_users=True)
    users = await _members(node, channels)
    told = await channels_info(node, options.channels, options)
    for channel in (channel for channel in channels if channel.name in told["channels"]):
        connections: dict[str, list[str]] = {}
        for conn_id, name in await node.members(channel.name):
            connections.setdefault(name, []).append(conn_id)
        told["channels"][channel.name]["users"] = [
            {"user": name, "status": _status(users.get(name)), "connections": connections.get(name, [])}
            for name in sorted(channel.users)
        ]
    return told | {"unique_users": len(users)}


async def _chosen(
    node: Node, names: Sequence[str] | None, options: InfoOptions, with_users: bool
) -> list[Channel]:
    excluded = set(options.exclude_channels)
    channels = await node.engine.channels(names, with_users)
    return [channel for channel in channels if channel.name not in excluded]


async def _members(node: Node, channels: Sequence[Channel]) -> dict[str, User]:
    names = sorted({name for channel in channels for name in channel.users})
    return {user.name: user for user in await node.engine.users(names)}


def _state(user: User, options: InfoOptions) -> dict[str, Any]:
    return user.public_state if options.return_public_state else user.state


def _status(user: User | None) -> int:
    status = user.state.get("status") if user else None
    return status if isinstance(status, int) else 0


async def _channel(channel: Channel, options: InfoOptions, position: Position, node: Node) -> dict[str, Any]:
    told: dict[str, Any] = {
        "uuid": channel.id,
        "name": channel.name,
        "long_name": None,
        "settings": asdict(channel.settings),
        "history": [
            Raw(item(entry, Dialect.V07))
            for entry in channel.history.entries
            if entry.seq <= position.seqs[entry.shard]
        ]
        if options.include_history
        else [],
        "last_active": stamp(channel.last_active_s),
        "total_connections": channel.connections,
        "total_users": channel.user_count,
        "users": sorted(channel.users) if options.include_users else [],
        "position": str(position),
    }
    if options.include_connections:
        told["connections"] = [conn_id for conn_id, _ in await node.members(channel.name)]
    return told
