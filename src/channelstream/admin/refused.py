"""The requests that were refused lately at all nodes: by path, status, reason and caller."""

from collections.abc import Iterable
from typing import Any

from channelstream.admin.all_nodes import AllNodes
from channelstream.core.timestamps import stamp
from channelstream.http.refusals import Refusal, RefusalTable, Tally
from channelstream.service import Service

PROCEDURE = "refusals of application {}"
SHOWN = 100
"""Most rows of each node, and of the table."""

Row = tuple[Refusal, Tally]


def refused_requests(service: Service, refusals: RefusalTable) -> AllNodes[list[Row], list[dict[str, Any]]]:
    """Return the reading of the rows, those that were met last first."""

    async def own() -> list[Row]:
        return refusals.rows()[:SHOWN]

    return AllNodes(service.node, PROCEDURE.format(service.app.id), list[Row], own, _sums)


def _sums(answers: Iterable[tuple[str, list[Row]]]) -> list[dict[str, Any]]:
    found: dict[Refusal, Tally] = {}
    for _, rows in answers:
        for refusal, tally in rows:
            known = found.setdefault(refusal, Tally())
            known.count += tally.count
            known.last_s = max(known.last_s, tally.last_s)
    latest = sorted(found.items(), key=lambda item: item[1].last_s, reverse=True)
    return [
        {**refusal._asdict(), "count": tally.count, "at": stamp(tally.last_s)}
        for refusal, tally in latest[:SHOWN]
    ]
