"""The context that all streams share, and the checks before a stream opens."""

import asyncio
from collections.abc import Coroutine, Mapping
from math import ceil

from channelstream.core.connection import Connection
from channelstream.core.ids import normalize_conn_id
from channelstream.core.policy import Policy
from channelstream.errors import Invalid, Unauthorized, Unavailable
from channelstream.http.closing import ClosingQueue
from channelstream.node import Service
from channelstream.slices import TurnQueue
from channelstream.transports.heartbeat import Heartbeat
from channelstream.transports.settings import StreamSettings
from channelstream.wire.framing import Framing
from channelstream.wire.protocols import PROTOCOLS, Protocols
from channelstream.wire.websocket import Limits

READS_AT_ONCE = 200
"""WebSocket clients whose frames are taken in in one turn of the loop: about 15 us each, if each has sent a short one."""


class Streams:
    """The node, the settings and the timer of all streams of an application."""

    def __init__(
        self, service: Service, settings: StreamSettings, policy: Policy, protocols: Protocols = PROTOCOLS
    ) -> None:
        self.service = service
        self.node = service.node
        self.policy = policy
        self.protocols = protocols
        self.settings = settings
        self.heartbeat = Heartbeat(settings.heartbeat_interval_s)
        self.ping_every = max(1, ceil(settings.ping_interval_s / settings.heartbeat_interval_s))
        """Heartbeats from one WebSocket ping to the next."""
        self.limits = Limits(settings.inbound_bytes, settings.inbound_bytes, settings.inbound_frames)
        """Bounds of what a WebSocket client may make this server buffer."""
        self.closing = ClosingQueue()
        self.inbound = TurnQueue(READS_AT_ONCE)
        """What WebSocket clients have sent and is not taken in yet."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._background: set[asyncio.Task[None]] = set()

    @property
    def open(self) -> int:
        """Number of open WebSocket and SSE streams."""
        return self.heartbeat.count

    @property
    def sockets(self) -> int:
        """Number of sockets that left HTTP: of open streams, and of streams that are about to open."""
        return self.heartbeat.count + len(self._opening)

    def connection(self, query: Mapping[str, str], framing: Framing) -> Connection:
        """Return the connection of a stream's request, if this node holds it.

        Args:
            framing: that of the stream.

        Raises:
            Invalid: no conn_id was given.
            Unauthorized: it is malformed, unknown or expired, or its protocol is not spoken on this transport.
            Unavailable: the server is shutting down, or its ownership of the connection is not confirmed.
        """
        conn_id = self._conn_id(query)
        connection = self._spoken(self.service.connection(conn_id) if conn_id else None, framing)
        if not self.node.owns(connection.id):
            raise Unavailable("The engine is out of reach; reconnect in a moment.")
        return connection

    def is_elsewhere(self, query: Mapping[str, str]) -> bool:
        """Whether another node may own the connection, so that `take_over` is needed.

        Raises:
            Invalid, Unavailable: as `connection` does.
        """
        conn_id = self._conn_id(query)
        return conn_id is not None and self.service.may_be_elsewhere(conn_id)

    async def take_over(self, query: Mapping[str, str], framing: Framing) -> Connection:
        """Return the connection of a stream's request, moved to this node if another one held it.

        Raises:
            Unavailable: also if the engine is out of reach.
        """
        conn_id = self._conn_id(query)
        return self._spoken(await self.service.take_over(conn_id) if conn_id else None, framing)

    def grace_s(self, connection: Connection) -> float:
        """Return how long a connection outlives a lost stream, in seconds."""
        return self.settings.detach_grace_s if self.protocols.resumes(connection.protocol) else 0.0

    def run(self, work: Coroutine[None, None, None], has_socket: bool = False) -> None:
        """Run a task for a stream that is about to open; stopping waits for it.

        Args:
            work: opens or refuses the stream.
            has_socket: the socket has left HTTP, so it counts in `sockets`.
        """
        _keep(work, self._opening if has_socket else self._tasks)

    def run_in_background(self, work: Coroutine[None, None, None]) -> None:
        """Run a task for a connection without a stream; stopping does not wait for it."""
        _keep(work, self._background)

    async def all_opened(self) -> None:
        """Wait until all streams that are about to open have opened or are refused."""
        while tasks := self._opening | self._tasks:
            await asyncio.wait(tasks)

    def _conn_id(self, query: Mapping[str, str]) -> str | None:
        if self.node.draining:
            raise Unavailable("The server restarts; reconnect in a moment.")
        if "conn_id" not in query:
            raise Invalid({"conn_id": ["Missing data for required field."]})
        try:
            return normalize_conn_id(query["conn_id"])
        except ValueError:
            return None

    def _spoken(self, connection: Connection | None, framing: Framing) -> Connection:
        """Return a connection whose protocol this server speaks on this transport.

        Raises:
            Unauthorized: it is unknown, or a node of a later version has registered it.
        """
        if connection is None or not self.protocols.is_spoken(connection.protocol, framing):
            raise Unauthorized("Unknown connection: ask the application for a new conn_id.")
        return connection


def _keep(work: Coroutine[None, None, None], tasks: set[asyncio.Task[None]]) -> None:
    task = asyncio.get_running_loop().create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
