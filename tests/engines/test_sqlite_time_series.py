"""The records by time in the SQLite engine's file."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

from tests.engines.sqlite_runs import Runs

from channelstream.engines.time_series import SERIES_RECORDS, Record

WEEK_S = 604_800.0


def test_the_oldest_records_are_dropped_at_the_bound(tmp_path: Path) -> None:
    """As by a server that is started again each second for days; another series keeps its own."""
    runs = Runs(tmp_path / "state.db")

    async def life() -> None:
        engine, _ = await runs.open()
        await engine.time_series.append("other", Record(1.0, b"kept"), WEEK_S)
        with closing(sqlite3.connect(runs.path)) as file, file:
            file.execute(
                "INSERT INTO time_series WITH RECURSIVE each(at) AS (VALUES (1) UNION ALL SELECT at + 1 FROM each"
                " WHERE at < ?) SELECT 'marks', at, x'00' FROM each",
                (SERIES_RECORDS + 5,),
            )
        await engine.time_series.append("marks", Record(SERIES_RECORDS + 6.0, b"newest"), WEEK_S)
        with closing(sqlite3.connect(runs.path)) as file:
            kept = file.execute("SELECT count(*), min(at), max(at) FROM time_series WHERE series = 'marks'")
            assert kept.fetchone() == (SERIES_RECORDS, 7.0, SERIES_RECORDS + 6.0)
        assert await engine.time_series.read("other", 0.0) == [Record(1.0, b"kept")]
        await engine.close()

    asyncio.run(life())
