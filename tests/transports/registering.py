"""An entrance of a test's protocol: opening its WebSocket registers a connection."""

from channelstream.core.client_protocol import ClientProtocol
from channelstream.core.connection import Connection
from channelstream.core.http_head import RequestHead
from channelstream.core.user import UserUpdate
from channelstream.errors import Unavailable
from channelstream.transports.admission import Admission
from channelstream.transports.entrances import OpeningRequest


class Registering:
    """Registers a new connection for each request."""

    paths: tuple[str, ...]
    protocol: ClientProtocol
    takes_tokens = False

    def __init__(self, admission: Admission) -> None:
        self._service = admission.service

    def check(self, head: RequestHead) -> None: ...

    def check_page(self, request: OpeningRequest) -> None: ...

    def user_of(self, request: OpeningRequest) -> str:
        """Return the user of the new connection."""
        return "somebody"

    def connection(self, request: OpeningRequest) -> Connection | None:
        return None

    async def fetch(self, request: OpeningRequest) -> Connection:
        opened = await self._service.connect(
            None, self.user_of(request), self.protocol, {}, UserUpdate({}, {})
        )
        connection = self._service.connection(opened.conn_id)
        if connection is None:
            raise Unavailable("It has ended meanwhile.")
        return connection
