"""The tables of the admin pages: channels, users, connections and nodes."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec

from channelstream.admin.columns import Cell, Column
from channelstream.admin.listing import Listing, PageRequest, Part
from channelstream.admin.shown import KEYS, state_of, transport_of, waiting_bytes
from channelstream.apps.keys import name_of
from channelstream.core.channel import Channel
from channelstream.core.connection import Connection, ConnectionState
from channelstream.core.node_status import NodeStatus
from channelstream.core.timestamps import stamp
from channelstream.core.user import User, state_bytes
from channelstream.service import Service
from channelstream.service.remote_calls import NodeResult, RemoteResult
from channelstream.wire.protocols import PROTOCOLS

T = TypeVar("T")

_request = msgspec.msgpack.Decoder(PageRequest)
_part = msgspec.msgpack.Decoder(Part)


@dataclass(frozen=True, slots=True)
class Table(Generic[T]):
    """One table: `/admin/NAME` is its page, `/admin/data/NAME` a part of its rows.

    Attributes:
        search: label of the search field.
        none: what the page says if there are no rows.
        rows: returns all rows.
    """

    name: str
    title: str
    search: str
    listing: Listing[T]
    rows: Callable[[Service], Awaitable[Sequence[T]]]
    none: str = "None yet."


def _marks(channel: Channel) -> list[str]:
    settings = channel.settings
    marks = (
        ("presence", settings.notify_presence),
        ("state", settings.notify_state),
        ("history", settings.store_history),
    )
    return [mark for mark, is_on in marks if is_on]


def _history_bytes(channel: Channel) -> int:
    return sum(entry.size for entry in channel.history.entries)


def _named(name: str, label: str, key: Callable[[T], str], cell: Cell) -> Column[T]:
    """Return the column of a name, which is searched, and ordered in upper and lower case alike."""

    def read(row: T) -> str:
        return name_of(key(row))

    return Column(name, label, read, cell, order=lambda row: read(row).casefold(), is_searched=True)


def _moment(name: str, label: str, at_s: Callable[[T], float]) -> Column[T]:
    """Return the column of a time, which is ordered by its seconds."""
    return Column(name, label, lambda row: stamp(at_s(row)), Cell.TIME, order=at_s)


_STATES = tuple(state.value for state in ConnectionState if state is not ConnectionState.CLOSED)
_TRANSPORTS = tuple(dict.fromkeys(each.name for each in PROTOCOLS.formats))


def _address(connection: Connection) -> str:
    return "" if connection.client is None else connection.client.address


def _since_s(connection: Connection) -> float:
    return 0.0 if connection.client is None else connection.client.since_s


def _since(connection: Connection) -> str:
    return "" if connection.client is None else stamp(connection.client.since_s)


CHANNELS: Table[Channel] = Table(
    "channels",
    "Channels",
    "Find a channel",
    Listing(
        (
            _named("name", "Channel", lambda channel: channel.name, Cell.CHANNEL),
            Column("users", "Users", lambda channel: channel.user_count, Cell.COUNT),
            Column("connections", "Connections", lambda channel: channel.connections, Cell.COUNT),
            Column("history", "History", lambda channel: len(channel.history.entries), Cell.COUNT),
            Column("history_bytes", "Bytes", _history_bytes, Cell.BYTES),
            Column("log", "Log", lambda channel: len(channel.log.entries), Cell.COUNT),
            Column("marks", "Settings", _marks, Cell.MARKS, is_sortable=False),
            _moment("last_active", "Last active", lambda channel: channel.last_active_s),
        )
    ),
    lambda service: service.channels(None, with_users=False),
)
USERS: Table[User] = Table(
    "users",
    "Users",
    "Find a user",
    Listing(
        (
            _named("name", "User", lambda user: user.name, Cell.USER),
            Column("connections", "Connections", lambda user: user.connections, Cell.COUNT),
            Column("channels", "Channels", lambda user: len(user.channels), Cell.COUNT),
            Column("state_bytes", "Bytes", lambda user: state_bytes(user.state), Cell.BYTES),
            Column("state", "State", lambda user: state_of(user.state, KEYS), Cell.PAIRS, is_sortable=False),
            _moment("last_active", "Last active", lambda user: user.last_active_s),
        )
    ),
    lambda service: service.users(None),
)
CONNECTIONS: Table[Connection] = Table(
    "connections",
    "Connections",
    "Find a connection or a user",
    Listing(
        (
            Column(
                "id",
                "Connection",
                lambda connection: name_of(connection.id),
                Cell.CONNECTION,
                is_searched=True,
            ),
            _named("user", "User", lambda connection: connection.user, Cell.USER),
            Column("state", "State", lambda connection: connection.state.value, Cell.WORD, choices=_STATES),
            Column("transport", "Transport", transport_of, Cell.WORD, choices=_TRANSPORTS),
            Column("address", "Address", _address, is_searched=True),
            Column("since", "Since", _since, Cell.TIME, order=_since_s),
            Column("channels", "Channels", lambda connection: len(connection.readable), Cell.COUNT),
            Column("waiting", "Bytes waiting", waiting_bytes, Cell.BYTES),
        )
    ),
    lambda service: service.connections(),
)
NODES: Table[NodeStatus] = Table(
    "nodes",
    "Nodes",
    "Find a node",
    Listing(
        (
            Column("label", "Node", lambda node: node.label, is_searched=True),
            Column("connections", "Connections", lambda node: node.connections, Cell.COUNT),
            Column("is_alive", "Lease", lambda node: node.is_alive, Cell.LEASE, is_sortable=False),
            _moment("last_beat", "Last heartbeat", lambda node: node.heartbeat_s),
            Column("id", "Id", lambda node: node.id, Cell.ID, is_sortable=False, is_searched=True),
        )
    ),
    lambda service: service.node.nodes(),
    none="This server does not share its engine with other nodes.",
)
TABLES: dict[str, Table[Any]] = {table.name: table for table in (CHANNELS, USERS, CONNECTIONS, NODES)}
CONNECTIONS_OF = {
    "user": [column for column in CONNECTIONS.listing.columns if column.name != "user"],
    "channel": [column for column in CONNECTIONS.listing.columns if column.name != "channels"],
    "connection": (),
}
"""The columns of the table of connections on the page of one thing."""


def connection_rows(connections: Iterable[Connection]) -> list[dict[str, Any]]:
    """Return rows for `CONNECTIONS_OF`."""
    return [CONNECTIONS.listing.row(connection) for connection in connections]


class Tables:
    """Pages of the tables. One page is built at a time, so that concurrent requests do not add up in one event loop turn."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._lock = asyncio.Lock()
        self._procedure = f"connections of application {service.app.id}"
        service.node.remote_calls.register(self._procedure, self._answer)

    async def page(self, name: str, request: PageRequest) -> dict[str, Any]:
        """Return one page of the table of this name."""
        async with self._lock:
            if name == CONNECTIONS.name and not self._service.node.is_single:
                return await self._connections(request)
            table = TABLES[name]
            answer = await table.listing.page(await table.rows(self._service), request)
        if name == CHANNELS.name and not self._service.node.is_single:
            for row in answer["rows"]:
                row["log"] = None  # Its events are not in this process.
        return answer

    async def _connections(self, request: PageRequest) -> dict[str, Any]:
        """Return one page of the connections of all nodes; `missing` are the nodes without an answer, with the reason."""
        results = await self._service.node.remote_calls.call_all(
            self._procedure, msgspec.msgpack.encode(request)
        )
        # Rows that are ordered alike are then so on each page, whichever node answers.
        results.sort(key=_node_id)
        found = [(each, _part_of(each.result)) for each in results]
        parts = [part for _, part in found if isinstance(part, Part)]
        missing = [
            {"label": each.label, "failure": part} for each, part in found if not isinstance(part, Part)
        ]
        return {**CONNECTIONS.listing.merged(parts, request), "missing": missing}

    async def _answer(self, argument: bytes) -> bytes:
        rows = await CONNECTIONS.rows(self._service)
        return msgspec.msgpack.encode(await CONNECTIONS.listing.part(rows, _request.decode(argument)))


def _node_id(each: NodeResult) -> str:
    return each.node.id if each.node else ""


def _part_of(result: RemoteResult) -> Part | str:
    """Return the rows of a node, or why there are none."""
    if result.failure:
        return result.failure
    try:
        return _part.decode(result.value)
    except msgspec.MsgspecError:
        return "The version of the node has other tables."
