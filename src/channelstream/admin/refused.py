"""The requests that were refused lately at all nodes: by path, status, reason and caller."""

from collections.abc import Iterable
from typing import Any

from channelstream.admin.all_nodes import AllNodes
from channelstream.core.timestamps import stamp
from channelstream.http.refusals import RefusalTable, Refused, What
from channelstream.service import Service

PROCEDURE = "refusals of application {}"
SHOWN = 100
"""Most rows of each node, and of the table."""

Row = tuple[What, Refused]


def refused_requests(service: Service, refusals: RefusalTable) -> AllNodes[list[Row], list[dict[str, Any]]]:
    """Return the reading of the rows, those that were met last first."""

    async def own() -> list[Row]:
        return refusals.rows()[:SHOWN]

    return AllNodes(service.node, PROCEDURE.format(service.app.id), list[Row], own, _sums)


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
