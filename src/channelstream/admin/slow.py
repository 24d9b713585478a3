"""The clients that read too slowly now, at all nodes: since when, and how far each is behind."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from channelstream.admin.all_nodes import AllNodes
from channelstream.admin.lag import lag_of
from channelstream.admin.shown import transport_of, waiting_bytes
from channelstream.apps.keys import name_of
from channelstream.core.connection import Connection, ConnectionState, Stream
from channelstream.core.timestamps import stamp
from channelstream.service import Service

PROCEDURE = "slow clients of application {}"
SHOWN = 20
"""Most clients of each node, and of the table: those that wait for longest. The lag of each takes a read of the log."""

REMEMBERED = 64
"""How many connections are remembered at least before those that have gone on are looked for."""

Row = dict[str, Any]


class _Stall(NamedTuple):
    """A stream that has stalled, and when it did (epoch seconds)."""

    stream: Stream | None
    since_s: float


class SlowClients:
    """The connections of this node whose clients do not read.

    A connection is remembered when it stalls, and forgotten by the first look at it after it has gone on. So nothing is
    counted where events are written, and a look costs no more than there are such connections. Where no page looks, at
    most `REMEMBERED` are remembered, or twice as many as were slow at the last look.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._stalls: dict[Connection, _Stall] = {}
        self._most = REMEMBERED
        node = service.node
        node.signals.stalled.connect(self._stalled)
        self._reading = AllNodes(node, PROCEDURE.format(service.app.id), list[Row], self._own, _longest)

    def _stalled(self, connection: Connection) -> None:
        if len(self._stalls) >= self._most:
            self._most = max(REMEMBERED, 2 * len(self.waiting()))
        # One that had gone on, or has another stream, begins to wait now.
        if not self._is_waiting(connection):
            self._stalls.pop(connection, None)
            self._stalls[connection] = _Stall(connection.stream, self._service.clock.wall())

    def _is_waiting(self, connection: Connection) -> bool:
        """Return whether the stream that had stalled has not gone on since."""
        known = self._stalls.get(connection)
        is_same = known is not None and connection.stream is known.stream
        return is_same and connection.state is ConnectionState.CATCHING_UP

    def waiting(self) -> list[tuple[Connection, float]]:
        """Return the connections that wait for their clients, and since when (epoch seconds), the longest first."""
        self._stalls = {each: stall for each, stall in self._stalls.items() if self._is_waiting(each)}
        return [(connection, stall.since_s) for connection, stall in self._stalls.items()]

    async def read(self) -> list[Row]:
        """Describe those of all nodes that wait for longest; only those of this node while the engine is out of reach."""
        return await self._reading.read()

    async def _own(self) -> list[Row]:
        owned = [each for each in self.waiting() if self._service.app.owns(each[0].id)]
        return [await self._row(*each) for each in owned[:SHOWN]]

    async def _row(self, connection: Connection, since_s: float) -> Row:
        return {
            "id": name_of(connection.id),
            "user": name_of(connection.user),
            "transport": transport_of(connection),
            "since": stamp(since_s),
            "lag": await lag_of(self._service.node, connection),
            "waiting_bytes": waiting_bytes(connection),
        }


def _longest(answers: Iterable[tuple[str, list[Row]]]) -> list[Row]:
    """Return the rows of all nodes, those that wait for longest first."""
    rows = (row for _, rows in answers for row in rows)
    return sorted(rows, key=lambda row: str(row["since"]))[:SHOWN]
