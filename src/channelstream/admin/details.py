"""One channel, one user, one connection, as the admin pages show them."""

from itertools import islice
from typing import Any

from msgspec.structs import asdict

from channelstream.admin.lag import lag_of
from channelstream.admin.last_events import last_events
from channelstream.admin.shown import (
    client_row,
    cut,
    ending_row,
    event_row,
    state_of,
    transport_of,
    waiting_bytes,
)
from channelstream.admin.tables import connection_rows
from channelstream.apps.keys import name_of
from channelstream.core.batch import DISCARD
from channelstream.core.channel import Channel
from channelstream.core.connection import Connection, ConnectionState
from channelstream.core.entry import Entry
from channelstream.core.events import Message
from channelstream.core.log import Log
from channelstream.core.position import Offsets, Position
from channelstream.core.timestamps import stamp
from channelstream.core.user import User
from channelstream.errors import Unavailable
from channelstream.service import Node, Service
from channelstream.wire.protocols import PROTOCOLS

LISTED = 200
"""Most users, channels or connections listed on one page. The page always shows their number."""
MESSAGES = 50
"""Most messages of a channel's history that are shown."""
ENDINGS = 20
"""Most endings of a connection or a user that are shown."""


async def channel(service: Service, name: str) -> dict[str, Any] | None:
    """Describe a channel. Return None if it is unknown."""
    found: Channel | None = next(iter(await service.channels([name])), None)
    if found is None:
        return None
    return {
        "name": name_of(found.name),
        "uuid": found.id,
        "settings": asdict(found.settings),
        "last_active": stamp(found.last_active_s),
        "connections": found.connections,
        "users": len(found.users),
        "listed_users": [
            {"name": name_of(user), "connections": count}
            for user, count in islice(found.users.items(), LISTED)
        ],
        "listed_connections": connections_in(service, name),
        "log": _kept(service.node, found.log),
        "history": len(found.history.entries),
        "messages": [_message_row(entry) for entry in reversed(found.history.entries[-MESSAGES:])],
        "position": str(service.node.position),
    }


def _kept(node: Node, log: Log) -> int | None:
    """Return how many events a log has; None where it is not in this process."""
    return len(log.entries) if node.is_single else None


def _message_row(entry: Entry) -> dict[str, Any]:
    event = entry.event
    assert isinstance(event, Message)  # noqa: S101 - history holds nothing else
    return {
        "uuid": event.uuid,
        "user": name_of(event.user),
        "at": event.timestamp,
        "edited": event.edited,
        "json": cut(event.payload),
    }


async def user(service: Service, name: str) -> dict[str, Any] | None:
    """Describe a user. Return None if it is unknown."""
    found: User | None = next(iter(await service.users([name])), None)
    if found is None:
        return None
    return {
        "name": name_of(found.name),
        "uuid": found.id,
        "state": state_of(found.state),
        "public_keys": list(found.public_keys),
        "last_active": stamp(found.last_active_s),
        "channels": len(found.channels),
        "listed_channels": sorted(map(name_of, islice(found.channels, LISTED))),
        "connections": found.connections,
        "listed_connections": connections_of(service, name),
        "private_log": _kept(service.node, found.log),
        "endings": endings_of_user(service, name),
    }


def connections_of(service: Service, name: str) -> list[dict[str, Any]]:
    """Describe the connections of a user at this node."""
    return connection_rows(islice(service.connections_of(name), LISTED))


def endings_of_user(service: Service, name: str) -> list[dict[str, Any]]:
    """Describe how streams and connections of a user ended at this node, newest first."""
    return [ending_row(ending) for ending in service.endings_of_user(name, ENDINGS)]


def connections_in(service: Service, channel: str) -> list[dict[str, Any]]:
    """Describe the connections of this node in a channel."""
    return connection_rows(islice(service.connections_in(channel), LISTED))


async def connection(service: Service, conn_id: str) -> dict[str, Any] | None:
    """Describe a connection, or how the connection with this id ended. Return None if neither is known."""
    endings = [ending_row(ending) for ending in service.endings_of(conn_id, ENDINGS)]
    node, found = service.node, service.connection(conn_id)
    if found is None:
        return {"id": conn_id, "state": "closed", "endings": endings} if endings else None
    waiting = found.batch.entries()
    return {
        "id": name_of(found.id),
        "user": name_of(found.user),
        "state": found.state.value,
        "transport": transport_of(found),
        "protocol": PROTOCOLS.title_of(found.protocol),
        "position": str(Position(node.position.epochs, _delivered_offsets(node, found, waiting))),
        "server_position": str(node.position),
        "client": client_row(found.client),
        "lag": await lag_of(node, found),
        "waiting_bytes": waiting_bytes(found),
        "expires_in_s": _expires_in_s(node, found),
        "channels": len(found.readable),
        "listed_channels": sorted(map(name_of, islice(found.readable, LISTED))),
        "events": await _events(node, found),
        "endings": endings,
    }


async def _events(node: Node, found: Connection) -> list[dict[str, Any]] | None:
    """Return the last events of a connection, newest first; None if the log cannot be read."""
    if not PROTOCOLS.is_known(found.protocol):
        return []
    try:
        last = await last_events(node, found)
    except Unavailable:
        return None
    return [row for entry in last if (row := event_row(entry, found.protocol)) is not None]


def _delivered_offsets(node: Node, found: Connection, waiting: list[Entry]) -> Offsets:
    if found.state is not ConnectionState.LIVE or found.batch is DISCARD:
        return found.delivered
    return waiting[0].offsets_before if waiting else node.hub.offsets


def _expires_in_s(node: Node, found: Connection) -> float | None:
    if found.deadline_s is None:
        return None
    return round(max(0.0, found.deadline_s - node.clock.steady()), 1)
