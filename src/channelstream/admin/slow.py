"""The clients that read too slowly now, at all nodes: since when, and how far each is behind."""

from typing import Any

import msgspec

from channelstream.admin.lag import lag_of
from channelstream.admin.shown import transport_of, waiting_bytes
from channelstream.apps.keys import name_of
from channelstream.core.connection import Connection, ConnectionState
from channelstream.core.timestamps import stamp
from channelstream.service import Service

PROCEDURE = "slow clients of application {}"
SHOWN = 20
"""Most clients of each node, and of the table: those that wait for longest. The lag of each takes a read of the log."""

_rows = msgspec.msgpack.Decoder(list[dict[str, Any]])


class SlowClients:
    """The connections of this node whose clients do not read.

    A connection is remembered when it stalls, and forgotten by the first look at it after it has gone on. So nothing is
    counted where events are written, and a look costs no more than there are such connections.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._since_s: dict[Connection, float] = {}
        node = service.node
        node.signals.stalled.connect(self._stalled)
        self._procedure = PROCEDURE.format(service.app.id)
        node.remote_calls.register(self._procedure, self._answer)

    def _stalled(self, connection: Connection) -> None:
        self._since_s.setdefault(connection, self._service.clock.wall())

    def waiting(self) -> list[tuple[Connection, float]]:
        """Return the connections that wait for their clients, and since when (epoch seconds), the longest first."""
        self._since_s = {
            connection: since_s
            for connection, since_s in self._since_s.items()
            if connection.state is ConnectionState.CATCHING_UP
        }
        return list(self._since_s.items())

    async def read(self) -> list[dict[str, Any]]:
        """Describe those of all nodes that wait for longest.

        Raises:
            Unavailable: the engine is out of reach.
        """
        rows: list[dict[str, Any]] = []
        for each in await self._service.node.remote_calls.call_all(self._procedure):
            rows += _rows.decode(each.result.value) if each.result.value else []
        return sorted(rows, key=lambda row: str(row["since"]))[:SHOWN]

    async def _answer(self, argument: bytes) -> bytes:
        owned = [each for each in self.waiting() if self._service.app.owns(each[0].id)]
        return msgspec.msgpack.encode([await self._row(*each) for each in owned[:SHOWN]])

    async def _row(self, connection: Connection, since_s: float) -> dict[str, Any]:
        return {
            "id": name_of(connection.id),
            "user": name_of(connection.user),
            "transport": transport_of(connection),
            "since": stamp(since_s),
            "lag": await lag_of(self._service.node, connection),
            "waiting_bytes": waiting_bytes(connection),
        }
