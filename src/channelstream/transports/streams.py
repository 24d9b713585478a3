"""Who may open a stream, and what every open stream needs: the context the transports share."""

import asyncio
from collections.abc import Coroutine
from math import ceil

from channelstream.core.connection import Connection
from channelstream.core.ids import normalize_conn_id
from channelstream.core.policy import Policy
from channelstream.core.websocket import Limits
from channelstream.errors import Invalid, Unauthorized, Unavailable
from channelstream.http.closing import ClosingQueue
from channelstream.node import Node
from channelstream.slices import TurnQueue
from channelstream.transports.heartbeat import Heartbeat
from channelstream.transports.settings import StreamSettings

READS_AT_ONCE = 200
"""WebSocket clients whose frames are taken in in one turn of the loop: about 15 us each, if each has sent a short one."""


class Streams:
    """The node, the settings and the timer that all streams of the process use."""

    def __init__(self, node: Node, settings: StreamSettings, policy: Policy) -> None:
        self.node = node
        self.policy = policy
        self.settings = settings
        self.heartbeat = Heartbeat(settings.heartbeat_interval_s)
        self.ping_every = max(1, ceil(settings.ping_interval_s / settings.heartbeat_interval_s))
        """How many heartbeats there are between two WebSocket pings."""
        self.limits = Limits(settings.inbound_bytes, settings.inbound_bytes, settings.inbound_frames)
        """What a WebSocket client may make this server hold."""
        self.closing = ClosingQueue()
        self.inbound = TurnQueue(READS_AT_ONCE)
        """What WebSocket clients have sent and is not taken in yet."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._background: set[asyncio.Task[None]] = set()

    @property
    def open(self) -> int:
        """How many WebSocket and SSE streams are open."""
        return self.heartbeat.count

    @property
    def sockets(self) -> int:
        """How many sockets there are that left HTTP: those of open streams, and those whose stream is about to open."""
        return self.heartbeat.count + len(self._opening)

    def connection(self, query: dict[str, str]) -> Connection:
        """Return the connection a stream asks for, if this node holds it.

        Raises:
            Invalid: no conn_id was given.
            Unauthorized: it is malformed, unknown or expired.
            Unavailable: the server is shutting down, or cannot say whether it still is this node's.
        """
        conn_id = self._conn_id(query)
        connection = self.node.connection(conn_id) if conn_id else None
        if connection is None:
            raise _unknown()
        if not self.node.engine.owns(connection.id):
            raise Unavailable("The engine is out of reach; reconnect in a moment.")
        return connection

    def is_elsewhere(self, query: dict[str, str]) -> bool:
        """Say whether the connection is perhaps another node's, so that it has to be asked for.

        Raises:
            Invalid, Unavailable: as `connection` does.
        """
        conn_id = self._conn_id(query)
        if not self.node.engine.shared or conn_id is None:
            return False
        return self.node.connection(conn_id) is None or not self.node.engine.owns(conn_id)

    async def take_over(self, query: dict[str, str]) -> Connection:
        """Return the connection a stream asks for, fetched from the node that held it.

        Raises:
            Unavailable: the engine is out of reach, too.
        """
        conn_id = self._conn_id(query)
        connection = await self.node.take_over(conn_id) if conn_id else None
        if connection is None:
            raise _unknown()
        return connection

    def run(self, work: Coroutine[None, None, None], has_socket: bool = False) -> None:
        """Do something for a stream that is about to open.

        Args:
            has_socket: the socket has left HTTP.
        """
        _keep(work, self._opening if has_socket else self._tasks)

    def run_in_background(self, work: Coroutine[None, None, None]) -> None:
        """Do something for a connection that has no stream at the moment; stopping does not wait for it."""
        _keep(work, self._background)

    async def all_opened(self) -> None:
        """Wait until all streams that are about to open are open, or refused."""
        while tasks := self._opening | self._tasks:
            await asyncio.wait(tasks)

    def _conn_id(self, query: dict[str, str]) -> str | None:
        if self.node.draining:
            raise Unavailable("The server restarts; reconnect in a moment.")
        if "conn_id" not in query:
            raise Invalid({"conn_id": ["Missing data for required field."]})
        try:
            return normalize_conn_id(query["conn_id"])
        except ValueError:
            return None


def _keep(work: Coroutine[None, None, None], tasks: set[asyncio.Task[None]]) -> None:
    task = asyncio.get_running_loop().create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)


def _unknown() -> Unauthorized:
    return Unauthorized("Unknown connection: ask the application for a new conn_id.")
