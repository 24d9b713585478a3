"""The records by time in the SQLite engine's file, beside its log."""

from collections.abc import Sequence

from channelstream.engines.sqlite_calls import FileCalls
from channelstream.engines.sqlite_file import SqliteFile
from channelstream.engines.sqlite_rows import DROP_OLD_RECORDS, PUT_RECORDS
from channelstream.engines.time_series import SERIES_RECORDS, Record

NEWEST = "SELECT at, data FROM time_series WHERE series = ? AND at >= ? ORDER BY at DESC LIMIT ?"


class SqliteTimeSeries:
    """Reads and writes records."""

    def __init__(self, calls: FileCalls) -> None:
        self._calls = calls

    async def append(self, series: str, record: Record, keep_s: float) -> None:
        await self.append_all(series, [record], keep_s)

    async def append_all(self, series: str, records: Sequence[Record], keep_s: float) -> None:
        rows = [(series, record.at_s, record.data) for record in records]
        old = [(series, records[-1].at_s - keep_s)]
        await self._calls.run(lambda file: file.write([(PUT_RECORDS, rows), (DROP_OLD_RECORDS, old)]))

    async def read(self, series: str, since_s: float, limit: int = SERIES_RECORDS) -> list[Record]:
        def newest(file: SqliteFile) -> list[Record]:
            # In the thread: 100,000 records take half a second.
            return [Record(*row) for row in reversed(file.rows(NEWEST, series, since_s, limit))]

        return await self._calls.run(newest)
