"""The outbox in the SQLite engine's file: facts are written by the batch that has their membership."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress

from channelstream.core.facts import Fact, decode, kind_of
from channelstream.core.registry import Registry
from channelstream.engines.group_commit import GroupCommit
from channelstream.engines.members import RestoredConnection
from channelstream.engines.outbox import (
    Cursor,
    CursorsOfApps,
    Kept,
    OutboxSettings,
    OutboxState,
    merged,
    passed_by_all,
)
from channelstream.engines.sqlite_calls import FileCalls
from channelstream.engines.sqlite_facts import DROP_FACTS, EMPTY, PUT_CURSORS, READ_BEGUN, TABLES, ends
from channelstream.engines.sqlite_faults import NotWritten
from channelstream.engines.sqlite_file import SqliteFile, Writes
from channelstream.engines.sqlite_rows import PUT_META, Row
from channelstream.errors import Unavailable

DROPPED = "facts_dropped"
"""The key in `meta` of the number of facts that were dropped since they were too many."""
DROPPED_AT_ONCE = 1000
"""Facts whose sizes are read in one statement."""
ALL = (1 << 63) - 1
"""No fact has a greater number."""
SIZES = "SELECT app, count(*), sum(length(data)) FROM {} GROUP BY app"


class SqliteOutbox:
    """Keeps the facts in the file. Its private methods are called in the thread of the file."""

    beginning: Cursor = (0,)

    def __init__(self, settings: OutboxSettings, calls: FileCalls) -> None:
        self._settings = settings
        self._calls = calls
        self._commits: GroupCommit
        self._begun: list[Row] = []
        self._facts: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()
        self._dropped = 0

    # -- for the engine

    def opened(self, is_new_run: bool) -> None:
        """Read what an open file has; called in the thread.

        Args:
            is_new_run: no other process has handed its connections over, so some may have ended with the last run.
        """
        file = self._calls.file
        if not self._settings.wanted:
            self._empty(file)
        self._count(file.rows(SIZES.format("facts")))
        dropped = file.rows("SELECT value FROM meta WHERE key = ?", DROPPED)
        self._dropped = int(dropped[0][0]) if dropped else 0
        self._begun = file.rows(READ_BEGUN) if is_new_run else []

    def _empty(self, file: SqliteFile) -> None:
        """Drop what an earlier run has left, since webhooks are not configured any more."""
        if any(file.rows(f"SELECT 1 FROM {table} LIMIT 1") for table in TABLES):  # noqa: S608 - names of our own
            with suppress(NotWritten):  # The disk is full: the next start drops it.
                file.write([(EMPTY[table], [(1,)]) for table in TABLES])

    def begin(
        self, commits: GroupCommit, registry: Registry, restored: Iterable[RestoredConnection], now_s: float
    ) -> None:
        """Keep the facts of a registry from now on, first those that end what was lost with the last run.

        Args:
            commits: they are written with these.
            restored: the connections of the last run.
            now_s: epoch seconds.
        """
        self._commits = commits
        wanted = self._settings.wanted
        for fact in ends(self._begun, registry, restored, round(now_s * 1000)):
            if wanted.wants(kind_of(fact), fact.place):
                self.keep(fact)
        self._begun = []
        registry.make_facts(wanted, self.keep)

    def keep(self, fact: Fact) -> None:
        """Have a fact written with what this turn of the event loop changes."""
        self._commits.batch().facts.append(fact)

    def written(self, facts: Sequence[Fact]) -> None:
        """Count facts that are in the file now, and drop the oldest beyond the bounds; called in the thread."""
        if not facts:
            return
        file = self._calls.file
        added = file.rows(
            SIZES.format("(SELECT app, data FROM facts ORDER BY number DESC LIMIT ?)"), len(facts)
        )
        self._count(added)
        with suppress(NotWritten):  # The disk is full: the next batch drops them.
            for app_id, *_ in added:
                while self._is_full(self._facts[app_id], self._bytes[app_id]):
                    self._drop_oldest(file, app_id, self._is_full)
            while (largest := self._largest()) is not None:
                self._drop_of_all(file, largest)

    def _count(self, added: Iterable[Row]) -> None:
        for app_id, facts, size in added:
            self._facts[app_id] += facts
            self._bytes[app_id] += size

    def _is_full(self, facts: int, size: int) -> bool:
        return facts > self._settings.most_facts or size > self._settings.most_bytes

    def _largest(self) -> str | None:
        """Return the application that keeps most, if all of them together keep too much."""
        if self._bytes.total() > self._settings.total_bytes:
            return max(self._bytes, key=self._bytes.__getitem__)
        if self._facts.total() > self._settings.total_facts:
            return max(self._facts, key=self._facts.__getitem__)
        return None

    def _drop_of_all(self, file: SqliteFile, app_id: str) -> None:
        other_facts = self._facts.total() - self._facts[app_id]
        other_bytes = self._bytes.total() - self._bytes[app_id]
        most = self._settings

        def is_full(facts: int, size: int) -> bool:
            return other_facts + facts > most.total_facts or other_bytes + size > most.total_bytes

        self._drop_oldest(file, app_id, is_full)

    def _drop_oldest(self, file: SqliteFile, app_id: str, is_full: Callable[[int, int], bool]) -> None:
        """Drop the oldest facts of an application, as long as what it keeps is too much."""
        through, facts, size = 0, self._facts[app_id], self._bytes[app_id]
        for number, length in file.rows(
            "SELECT number, length(data) FROM facts WHERE app = ? ORDER BY number LIMIT ?",
            app_id,
            DROPPED_AT_ONCE,
        ):
            if not is_full(facts, size):
                break
            through, facts, size = number, facts - 1, size - length
        dropped = self._dropped + self._facts[app_id] - facts
        file.write([(DROP_FACTS, [(app_id, through)]), (PUT_META, [(DROPPED, dropped)])])
        self._facts[app_id], self._bytes[app_id], self._dropped = facts, size, dropped

    # -- the port

    async def append(self, facts: Sequence[Fact]) -> None:
        if not facts:
            return
        self._commits.check_room()
        batch = self._commits.batch()
        batch.facts += facts
        # With a full disk they stay, and are written later: so nobody must append them again.
        with suppress(Unavailable):
            await self._commits.written(batch)

    async def read(self, app_id: str, after: Cursor, limit: int) -> list[Kept]:
        statement = "SELECT number, data FROM facts WHERE app = ? AND number > ? ORDER BY number LIMIT ?"
        rows = await self._calls.run(lambda file: file.rows(statement, app_id, after[0], limit))
        return [Kept(0, number, decode(data)) for number, data in rows]

    async def cursors(self) -> dict[str, Cursor]:
        rows = await self._calls.run(lambda file: file.rows("SELECT consumer, number FROM fact_cursors"))
        return {consumer: (number,) for consumer, number in rows}

    async def settle(self, token: int, cursors: CursorsOfApps) -> bool:
        rows = [(consumer, cursor[0]) for consumer, cursor in merged(cursors).items()]
        writes: Writes = [(EMPTY["fact_cursors"], [(1,)]), (PUT_CURSORS, rows)]
        await self._calls.run(lambda file: self._settle(file, writes, passed_by_all(cursors, 0)))
        return True

    def _settle(self, file: SqliteFile, writes: Writes, passed: Mapping[str, int]) -> None:
        through = {app_id: passed.get(app_id, ALL) for app_id, facts in self._facts.items() if facts}
        sizes = {
            app_id: file.rows(
                "SELECT count(*), ifnull(sum(length(data)), 0) FROM facts WHERE app = ? AND number <= ?",
                app_id,
                number,
            )[0]
            for app_id, number in through.items()
        }
        file.write([*writes, (DROP_FACTS, list(through.items()))])
        for app_id, (facts, size) in sizes.items():
            self._facts[app_id] -= facts
            self._bytes[app_id] -= size

    async def hold(self, ttl_s: float) -> int | None:
        return 1

    async def release(self) -> None:
        """Do nothing: no other node sends."""

    async def state(self) -> OutboxState:
        return OutboxState(self._facts.total(), self._bytes.total(), self._dropped)
