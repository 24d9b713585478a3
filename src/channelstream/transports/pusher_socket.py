"""`/app/KEY`: the clients of Pusher. A connection is registered when its stream opens, and ends with it.

A page does not see the HTTP status of a WebSocket, so a client is refused with a close code after the handshake. The
connection belongs to a user of its own, whom nobody else knows: who is a member of a channel is named there only.
"""

from secrets import randbelow
from typing import Final

from channelstream.apps.pusher_app import PusherApp
from channelstream.core.connection import Connection
from channelstream.core.http_head import RequestHead
from channelstream.core.pusher_signing import conn_id_of
from channelstream.core.shedding import Work
from channelstream.errors import Forbidden, Refused, Unauthorized, Unavailable
from channelstream.service import Service
from channelstream.service.memberships import Memberships
from channelstream.transports.admission import Admission
from channelstream.transports.entrances import Drawn, OpeningRequest
from channelstream.wire.pusher import PUSHER, new_state

VERSIONS: Final = ("5", "6", "7")
"""The versions of the protocol that clients may name; all of them are answered alike."""
BAD_VERSION: Final = 4007
NO_VERSION: Final = 4008
BAD_ORIGIN: Final = 4009
FULL: Final = 4100
PART: Final = 10**10
"""Bound of each part of a socket id, of which two make 66 bits: none is drawn twice."""


class PusherSocket:
    """Registers the connections of Pusher's clients, of all applications that are served (`Entrance`)."""

    protocol = PUSHER
    takes_tokens = False

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._served = {
            service.app.pusher.key: (service, service.app.pusher)
            for service in admission.served()
            if service.app.pusher is not None
        }

    @property
    def paths(self) -> tuple[str, ...]:
        prefixes = dict.fromkeys(app.path_prefix for _, app in self._served.values())
        return tuple(prefix + "/app/{key}" for prefix in {"": None, **prefixes}) if self._served else ()

    def check(self, head: RequestHead) -> None:
        """Refuse nothing yet: a browser would not say why."""

    def check_page(self, request: OpeningRequest) -> None:
        service, _ = self._service(request)
        try:
            self._admission.policy_of(service.app).check_origin(request.head.headers)
        except Forbidden as error:
            raise Refused(BAD_ORIGIN, error.message) from error

    def connection(self, request: OpeningRequest) -> Connection | None:
        """Return None, as each client gets a new connection.

        Raises:
            ChannelstreamError: the client is refused.
        """
        service, _ = self._service(request)
        version = request.query.get("protocol")
        if version is None:
            raise Refused(NO_VERSION, "Name the version of the protocol: protocol=7.")
        if version not in VERSIONS:
            raise Refused(BAD_VERSION, f"The versions of the protocol here are {', '.join(VERSIONS)}.")
        if service.node.draining:
            raise Unavailable("The server restarts; connect again.")
        service.node.shedding.check(Work.STREAM)
        return None

    async def fetch(self, request: OpeningRequest) -> Drawn:
        service, app = self._service(request)
        socket_id = f"{randbelow(PART)}.{randbelow(PART)}"
        return Drawn(await _register(service, app, socket_id), new_state(socket_id))

    def _service(self, request: OpeningRequest) -> tuple[Service, PusherApp]:
        found = self._served.get(request.head.path.rpartition("/")[2])
        if found is None:
            raise Unauthorized("There is no application with this key.")
        return found


async def _register(service: Service, app: PusherApp, socket_id: str) -> Connection:
    """Return a new connection.

    Raises:
        Refused: there is no room for it.
    """
    conn_id = service.app.conn_id(conn_id_of(app.secrets.oldest, socket_id))
    try:
        return await Memberships(service).open(conn_id, socket_id, PUSHER)
    except Unavailable as error:
        raise Refused(FULL, error.message) from error
