"""When each key was used last: kept by the engine beside the figures of the past, so it is that of all nodes."""

from collections.abc import Callable
from typing import Any

from channelstream.admin.history import History
from channelstream.apps.api_key import ApiKey
from channelstream.apps.key_ring import KeyRing
from channelstream.core.timestamps import stamp
from channelstream.service import Record, Service, TimeSeries

SERIES = "uses of keys of application {}"
"""Each application has its own."""
STEP_S = 6 * 3600.0
"""A use is written if the last one that was written is older: a key has at most four records of a node a day."""
KEPT_S = 90 * 86_400.0
"""How long a use is kept. A key without one was not used for so long, or since the engine has its data."""


class KeyUses:
    """Notes the uses of valid keys at this node, and reads those of all nodes."""

    def __init__(self, history: History, series: TimeSeries, wall: Callable[[], float]) -> None:
        """Begin without a use.

        Args:
            history: writes the uses, in order with what else waits to be written.
            series: has what was written.
            wall: returns epoch seconds.
        """
        self._history = history
        self._series = series
        self._wall = wall
        self._used_s: dict[tuple[str, str], float] = {}
        self._written_s: dict[tuple[str, str], float] = {}

    def used(self, app_id: str, key_id: str) -> None:
        """Note that a call with a valid key was made now."""
        now_s, key = self._wall(), (app_id, key_id)
        self._used_s[key] = now_s
        if now_s - self._written_s.get(key, 0.0) >= STEP_S:
            self._written_s[key] = now_s
            self._history.write(SERIES.format(app_id), Record(now_s, key_id.encode()), KEPT_S)

    async def last_s(self, app_id: str) -> dict[str, float]:
        """Return when each key of an application was used last, in seconds since the epoch; at other nodes to `STEP_S`.

        Raises:
            Unavailable: the engine is out of reach.
        """
        records = await self._series.read(SERIES.format(app_id), self._wall() - KEPT_S)
        last_s = {record.data.decode(): record.at_s for record in records}
        for (owner, key_id), used_s in self._used_s.items():
            if owner == app_id:
                last_s[key_id] = max(used_s, last_s.get(key_id, 0.0))
        return last_s


class KeyTable:
    """Describes the keys of one application, without their secrets."""

    def __init__(self, service: Service, ring: KeyRing, uses: KeyUses) -> None:
        self._service = service
        self._ring = ring
        self._uses = uses

    async def rows(self) -> list[dict[str, Any]]:
        """Return a row for each key that is not revoked, by id.

        Raises:
            Unavailable: the engine is out of reach.
        """
        last_s, now_s = await self._uses.last_s(self._service.app.id), self._service.clock.wall()
        keys = sorted(
            (key for key in self._ring if self._service.app.id == key.app.id), key=lambda key: key.id
        )
        return [_row(key, now_s, last_s.get(key.id)) for key in keys]


def _row(key: ApiKey, now_s: float, used_s: float | None) -> dict[str, Any]:
    return {
        "id": key.id,
        "rights": sorted(key.rights),
        "state": key.state(now_s),
        "not_before": None if key.not_before_s is None else stamp(key.not_before_s),
        "not_after": None if key.not_after_s is None else stamp(key.not_after_s),
        "last_used": None if used_s is None else stamp(used_s),
    }
