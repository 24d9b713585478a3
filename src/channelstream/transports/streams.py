"""Who may open a stream, and what every open stream needs: the context the transports share."""

from math import ceil

from channelstream.core.connection import Connection
from channelstream.core.ids import normalize_conn_id
from channelstream.core.policy import Policy
from channelstream.errors import Invalid, Unauthorized, Unavailable
from channelstream.node import Node
from channelstream.transports.heartbeat import Heartbeat
from channelstream.transports.settings import StreamSettings


class Streams:
    """The node, the settings and the timer that all streams of the process use."""

    def __init__(self, node: Node, settings: StreamSettings, policy: Policy) -> None:
        self.node = node
        self.policy = policy
        self.settings = settings
        self.heartbeat = Heartbeat(settings.heartbeat_interval_s)
        self.ping_every = max(1, ceil(settings.ping_interval_s / settings.heartbeat_interval_s))
        """How many heartbeats there are between two WebSocket pings."""

    @property
    def open(self) -> int:
        """How many WebSocket and SSE streams are open."""
        return self.heartbeat.count

    def connection(self, query: dict[str, str]) -> Connection:
        """Return the connection a stream asks for.

        Raises:
            Invalid: no conn_id was given.
            Unauthorized: it is malformed, unknown or expired.
            Unavailable: the server is shutting down.
        """
        if self.node.draining:
            raise Unavailable("The server restarts; come back in a moment.")
        if "conn_id" not in query:
            raise Invalid({"conn_id": ["Missing data for required field."]})
        try:
            connection = self.node.connection(normalize_conn_id(query["conn_id"]))
        except ValueError:
            connection = None
        if connection is None:
            raise Unauthorized("Unknown connection: ask the application for a new conn_id.")
        return connection
