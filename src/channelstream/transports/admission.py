"""The checks before a stream opens."""

from collections.abc import Iterable, Mapping

from channelstream.apps.app import App
from channelstream.core.connection import Connection, ConnectionState
from channelstream.core.headers import Header
from channelstream.core.http_head import RequestHead
from channelstream.core.ids import normalize_conn_id
from channelstream.core.policy import Policy
from channelstream.core.query import read_query
from channelstream.core.shedding import Work
from channelstream.errors import Invalid, Unauthorized
from channelstream.service import Service
from channelstream.transports.streams import Streams
from channelstream.transports.token_admission import TokenAdmission
from channelstream.wire.commanding import COMMANDING
from channelstream.wire.framing import Framing


class Admission:
    """Finds the connections of one application for which streams are opened, and refuses the others.

    Attributes:
        service: that of the application.
        tokens: opens the connections of clients with tokens.
    """

    def __init__(self, streams: Streams, service: Service, opens_any: bool = False) -> None:
        """Create the checks.

        Args:
            opens_any: it also opens streams of other applications, which it finds by the connection id
                (`Apps.of_conn_id`), since the path of the request names none.
        """
        self._streams = streams
        self.service = service
        self._opens_any = opens_any
        self.tokens = TokenAdmission(streams, None if opens_any else service.app)

    def _service_of(self, conn_id: str) -> Service:
        return self._streams.services.of_conn_id(conn_id) if self._opens_any else self.service

    def served(self) -> Iterable[Service]:
        """Return the services of the applications whose streams it opens."""
        return self._streams.services.all() if self._opens_any else (self.service,)

    def policy_of(self, app: App) -> Policy:
        """Return the policy of one of them."""
        return self._streams.policy_of(app)

    def policy(self, query: bytes) -> Policy:
        """Return the policy of the application for whose connection a stream is opened with this query."""
        if not self._opens_any:
            return self._streams.policy_of(self.service.app)
        return self._streams.policy_of(self._service_of(read_query(query).get("conn_id", "")).app)

    def cors(self, head: RequestHead) -> tuple[Header, ...]:
        """Return the headers that let a page of that application read the answer."""
        return self.policy(head.query).cors(head.headers)

    def check_load(self, head: RequestHead) -> None:
        """Refuse a new stream while the process sheds load; a connection of this node that had one may open the next.

        Raises:
            Overloaded: it is refused.
        """
        shedding = self.service.node.shedding
        if shedding.reason and not self._had_stream(read_query(head.query)):
            shedding.check(Work.STREAM)

    def _had_stream(self, query: Mapping[str, str]) -> bool:
        connection = self._known(query)
        return connection is not None and connection.state is not ConnectionState.NEW

    def is_known(self, query: Mapping[str, str]) -> bool:
        """Whether the connection that a request names is at this node."""
        return self._known(query) is not None

    def _known(self, query: Mapping[str, str]) -> Connection | None:
        try:
            conn_id = normalize_conn_id(query.get("conn_id", ""))
        except ValueError:
            return None
        return self._service_of(conn_id).connection(conn_id)

    def connection(self, query: Mapping[str, str], framing: Framing) -> Connection | None:
        """Return the connection of a stream's request; None if another node may own it, so that `take_over` is needed.

        Args:
            framing: that of the stream.

        Raises:
            Invalid: no conn_id was given.
            Unauthorized: it is malformed, unknown or expired, or its protocol is not spoken on this transport.
            Unavailable: the server is shutting down.
        """
        conn_id = self._conn_id(query)
        if conn_id is None:
            return self._spoken(None, framing)
        service = self._service_of(conn_id)
        if service.may_be_elsewhere(conn_id):
            return None
        return self._spoken(service.connection(conn_id), framing)

    async def take_over(self, query: Mapping[str, str], framing: Framing) -> Connection:
        """Return the connection of a stream's request, moved to this node if another one held it.

        Raises:
            Invalid, Unauthorized: as `connection` does.
            Unavailable: also if the engine is out of reach.
        """
        conn_id = self._conn_id(query)
        found = await self._service_of(conn_id).take_over(conn_id) if conn_id else None
        return self._spoken(found, framing)

    def _conn_id(self, query: Mapping[str, str]) -> str | None:
        self._streams.check_draining()
        if "conn_id" not in query:
            raise Invalid({"conn_id": ["Missing data for required field."]})
        try:
            return normalize_conn_id(query["conn_id"])
        except ValueError:
            return None

    def _spoken(self, connection: Connection | None, framing: Framing) -> Connection:
        """Return a connection whose protocol this server speaks on this transport.

        Raises:
            Unauthorized: it is unknown, a node of a later version has registered it, or it needs a token.
        """
        protocol = None if connection is None else connection.protocol
        is_spoken = protocol is not None and self._streams.protocols.is_spoken(protocol, framing)
        if connection is None or not is_spoken or protocol == COMMANDING:
            raise Unauthorized("Unknown connection: ask the application for a new conn_id.")
        return connection
