"""How streams and connections ended lately at all nodes; of each group the latest are shown, so that none hides another."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from channelstream.admin.all_nodes import AllNodes
from channelstream.admin.shown import ending_row
from channelstream.core.endings import Group
from channelstream.service import Service

PROCEDURE = "endings of application {}"
LATEST = 25
"""Endings that are shown of each node, and in all, whatever their groups are."""
LATEST_OF_GROUP = 3
"""Endings of each group that are shown at least."""

Row = dict[str, Any]


def recent_endings(service: Service) -> AllNodes[list[Row], list[Row]]:
    """Return the reading that describes them, newest first."""

    async def own() -> list[Row]:
        endings = service.node.local.endings
        return chosen(
            {**ending_row(each), "group": key_of(endings.group(each))} for each in service.endings()
        )

    return AllNodes(service.node, PROCEDURE.format(service.app.id), list[Row], own, _latest)


def _latest(answers: Iterable[tuple[str, list[Row]]]) -> list[Row]:
    """Return the rows of all nodes, newest first."""
    rows = (row for _, rows in answers for row in rows)
    return chosen(sorted(rows, key=lambda row: str(row["at"]), reverse=True))


def chosen(rows: Iterable[Row]) -> list[Row]:
    """Return the first `LATEST` of all rows, and the first `LATEST_OF_GROUP` of each group, in their order."""
    seen: Counter[str] = Counter()
    found: list[Row] = []
    for row in rows:
        if len(found) < LATEST or seen[row["group"]] < LATEST_OF_GROUP:
            found.append(row)
        seen[row["group"]] += 1
    return found


def key_of(group: Group) -> str:
    """Return a group as one text, by which pages and the history know it: its code, what ended, and the reason."""
    return f"{group.code} {'connection' if group.final else 'stream'} {group.reason}"


def counts_by_key(counts: Mapping[Group, int]) -> dict[str, int]:
    return {key_of(group): count for group, count in counts.items()}
