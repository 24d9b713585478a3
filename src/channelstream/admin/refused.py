"""The requests that were refused lately at all nodes: by path, status, reason and caller."""

from collections.abc import Iterable
from typing import Any

from channelstream.admin.all_nodes import AllNodes
from channelstream.core.timestamps import stamp
from channelstream.http.refusals import RefusalTable, Refused, What
from channelstream.service import Node

PROCEDURE = "refusals of application {}"
SHOWN = 100
"""Most rows of each node, and of the table."""

Row = tuple[What, Refused]


class RefusedRequests:
    """Reads the refusals of all nodes, and answers the calls of the other nodes."""

    def __init__(self, node: Node, refusals: RefusalTable, app_id: str) -> None:
        self._refusals = refusals
        self._reading = AllNodes(node, PROCEDURE.format(app_id), list[Row], self._own, _sums)

    async def read(self) -> list[dict[str, Any]]:
        """Return the rows, those that were met last first; only those of this node while the engine is out of reach."""
        return await self._reading.read()

    async def _own(self) -> list[Row]:
        return self._refusals.rows()[:SHOWN]


def _sums(answers: Iterable[tuple[str, list[Row]]]) -> list[dict[str, Any]]:
    found: dict[What, Refused] = {}
    for _, rows in answers:
        for what, refused in rows:
            known = found.setdefault(what, Refused())
            known.count += refused.count
            known.last_s = max(known.last_s, refused.last_s)
    latest = sorted(found.items(), key=lambda item: item[1].last_s, reverse=True)
    return [
        {**what._asdict(), "count": refused.count, "at": stamp(refused.last_s)}
        for what, refused in latest[:SHOWN]
    ]
