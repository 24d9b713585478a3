"""How streams and connections ended lately at all nodes; of each group the latest are shown, so that none hides another."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from channelstream.admin.shared_reading import SharedReading
from channelstream.admin.shown import ending_row
from channelstream.core.endings import Group
from channelstream.service import Service

PROCEDURE = "endings of application {}"
LATEST = 25
"""Endings that are shown of each node, and in all, whatever their groups are."""
LATEST_OF_GROUP = 3
"""Endings of each group that are shown at least."""

_decode = msgspec.msgpack.Decoder(list[dict[str, Any]]).decode


class RecentEndings:
    """Reads the endings of all nodes, and answers the calls of the other nodes."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._reading = SharedReading(self._read, service.clock.steady)
        self._procedure = PROCEDURE.format(service.app.id)
        service.node.remote_calls.register(self._procedure, self._answer)

    async def read(self) -> list[dict[str, Any]]:
        """Describe them, newest first; only those of this node while the engine is out of reach."""
        return await self._reading.get()

    async def _read(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for each in (await self._service.node.remote_calls.call_reachable(self._procedure)).results:
            rows += each.read(_decode) or ()
        return chosen(sorted(rows, key=lambda row: str(row["at"]), reverse=True))

    async def _answer(self, argument: bytes) -> bytes:
        endings = self._service.node.local.endings
        rows = (
            {**ending_row(each), "group": key_of(endings.group(each))} for each in self._service.endings()
        )
        return msgspec.msgpack.encode(chosen(rows))


def chosen(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the first `LATEST` of all rows, and the first `LATEST_OF_GROUP` of each group, in their order."""
    seen: Counter[str] = Counter()
    found: list[dict[str, Any]] = []
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
