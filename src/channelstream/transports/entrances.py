"""Which paths open a WebSocket, in which protocol, and how the connection of a request is found: a row for each.

An entrance is made for an application, and asked for each request whose path is its own.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from channelstream.core.client_protocol import ClientProtocol
from channelstream.core.connection import Connection
from channelstream.core.http_head import RequestHead
from channelstream.transports.admission import Admission
from channelstream.wire.channelstream import V07
from channelstream.wire.framing import Framing


class OpeningRequest(NamedTuple):
    """A request for a WebSocket.

    Attributes:
        head: its path is without the prefix of a proxy.
        framing: that of the stream.
    """

    head: RequestHead
    query: Mapping[str, str]
    framing: Framing


class Drawn(NamedTuple):
    """A connection that its entrance has registered.

    Attributes:
        state: of the session, as `SessionStart.state`.
    """

    connection: Connection
    state: bytes


class Entrance(Protocol):
    """Finds the connection of a request for a WebSocket.

    Attributes:
        paths: as in `http.router.Route`; none if it is closed.
        protocol: in which a client is refused.
        takes_tokens: clients with tokens may open it as well.
    """

    @property
    def paths(self) -> Sequence[str]: ...

    @property
    def protocol(self) -> ClientProtocol: ...

    @property
    def takes_tokens(self) -> bool: ...

    def check(self, head: RequestHead) -> None:
        """Refuse a request with an HTTP answer, before its handshake is accepted.

        Raises:
            ChannelstreamError: the client is refused.
        """

    def check_page(self, request: OpeningRequest) -> None:
        """Refuse the client of a page of another site, before anything waits for it.

        A page does not see the HTTP status of a WebSocket: it is refused with a close code after the handshake.

        Raises:
            ChannelstreamError: the client is refused.
        """

    def connection(self, request: OpeningRequest) -> Connection | None:
        """Return the connection if it is here already; None if it has to be fetched.

        Raises:
            ChannelstreamError: the client is refused.
        """

    async def fetch(self, request: OpeningRequest) -> Connection | Drawn:
        """Return the connection, moved to this node or newly registered.

        If its client leaves meanwhile, the connection expires as any without a stream does (`unattached_timeout_s`).

        Raises:
            ChannelstreamError: the client is refused.
        """


class ByConnId:
    """`/ws`: the application has registered the connection, and the client names it in the query."""

    paths = ("/ws",)
    takes_tokens = True
    protocol = V07
    """Both generations are refused alike, and an unknown connection could be of either."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission

    def check(self, head: RequestHead) -> None:
        self._admission.check_load(head)

    def check_page(self, request: OpeningRequest) -> None:
        self._admission.policy(request.head.query).check_origin(request.head.headers)

    def connection(self, request: OpeningRequest) -> Connection | None:
        return self._admission.connection(request.query, request.framing)

    async def fetch(self, request: OpeningRequest) -> Connection:
        return await self._admission.take_over(request.query, request.framing)


MakeEntrance = Callable[[Admission], Entrance]
"""Makes an entrance of an application."""
