"""The requests that were refused lately at all nodes: by path, status, reason and caller."""

from typing import Any

import msgspec

from channelstream.admin.shared_reading import SharedReading
from channelstream.core.timestamps import stamp
from channelstream.http.refusals import RefusalTable, Refused, What
from channelstream.service import Node

PROCEDURE = "refusals of application {}"
SHOWN = 100
"""Most rows of each node, and of the table."""

_decode = msgspec.msgpack.Decoder(list[tuple[What, Refused]]).decode


class RefusedRequests:
    """Reads the refusals of all nodes, and answers the calls of the other nodes."""

    def __init__(self, node: Node, refusals: RefusalTable, app_id: str) -> None:
        self._node = node
        self._procedure = PROCEDURE.format(app_id)
        self._refusals = refusals
        self._reading = SharedReading(self._read, node.clock.steady)
        node.remote_calls.register(self._procedure, self._answer)

    async def read(self) -> list[dict[str, Any]]:
        """Return the rows, those that were met last first; only those of this node while the engine is out of reach."""
        return await self._reading.get()

    async def _read(self) -> list[dict[str, Any]]:
        found: dict[What, Refused] = {}
        for each in (await self._node.remote_calls.call_reachable(self._procedure)).results:
            for what, refused in each.read(_decode) or ():
                known = found.setdefault(what, Refused())
                known.count += refused.count
                known.last_s = max(known.last_s, refused.last_s)
        latest = sorted(found.items(), key=lambda item: item[1].last_s, reverse=True)
        return [
            {**what._asdict(), "count": refused.count, "at": stamp(refused.last_s)}
            for what, refused in latest[:SHOWN]
        ]

    async def _answer(self, argument: bytes) -> bytes:
        return msgspec.msgpack.encode(self._refusals.rows()[:SHOWN])
