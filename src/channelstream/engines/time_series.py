"""The port to records by time: what a service shows of its past, such as figures of each minute.

An engine that outlives its process keeps them, so that the past is still there after a restart; nodes that share an
engine share them. What a record means is known only to its writer. A record is written once, and dropped when it is too old.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter
from typing import NamedTuple, Protocol

RECORD_BYTES = 8192
"""Longest record that an engine has to keep. Writers write less."""
SERIES_RECORDS = 100_000
"""Most records of a series; the oldest are dropped."""


class Record(NamedTuple):
    """A record of a series.

    Attributes:
        at_s: its time, in seconds since 1970.
    """

    at_s: float
    data: bytes


class TimeSeries(Protocol):
    """The port. Its methods raise `Unavailable` when the engine is out of reach.

    A record may have been written then; the same one of the same node, appended again, stays one.
    """

    async def append(self, series: str, record: Record, keep_s: float) -> None:
        """Add a record to a series, and drop the records that are older by more than `keep_s` seconds."""

    async def append_all(self, series: str, records: Sequence[Record], keep_s: float) -> None:
        """Add some records of one time to a series, as `append` does, at the cost of little more than one."""

    async def read(self, series: str, since_s: float, limit: int = SERIES_RECORDS) -> list[Record]:
        """Return the newest records of all nodes from a time on, oldest first, `limit` at most."""


class LocalTimeSeries:
    """Keeps the records in this process."""

    def __init__(self) -> None:
        self._series: dict[str, deque[Record]] = {}

    def rows(self) -> Iterator[tuple[str, float, bytes]]:
        """Yield all records for another process, each after the name of its series; nothing is appended meanwhile."""
        for name, records in self._series.items():
            yield from ((name, *record) for record in records)

    def restore(self, rows: Iterable[tuple[str, float, bytes]]) -> None:
        """Take the records of another process, before any is appended."""
        for name, at_s, data in rows:
            self._series.setdefault(name, deque(maxlen=SERIES_RECORDS)).append(Record(at_s, data))

    async def append(self, series: str, record: Record, keep_s: float) -> None:
        records = self._series.setdefault(series, deque(maxlen=SERIES_RECORDS))
        records.append(record)
        while records[0].at_s < record.at_s - keep_s:
            records.popleft()

    async def append_all(self, series: str, records: Sequence[Record], keep_s: float) -> None:
        for record in records:
            await self.append(series, record, keep_s)

    async def read(self, series: str, since_s: float, limit: int = SERIES_RECORDS) -> list[Record]:
        records = list(self._series.get(series, ()))
        first = bisect_left(records, since_s, key=itemgetter(0))
        return records[max(first, len(records) - limit) :]
