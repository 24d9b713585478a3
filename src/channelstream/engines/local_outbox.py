"""The outbox of an engine that keeps everything in this process."""

from bisect import bisect_right
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from itertools import islice
from operator import attrgetter
from typing import NamedTuple

from channelstream.apps.wanted_facts import app_of
from channelstream.core.facts import Fact, decode, encode
from channelstream.engines.outbox import (
    Cursor,
    CursorsOfApps,
    Kept,
    OutboxSettings,
    OutboxState,
    merged,
    passed_by_all,
)

Row = tuple[str, int, bytes]
"""On the way to another process: what it is, its number, and the stored form of a fact or the name of a consumer."""
FACT, CURSOR, LAST, DROPPED = "fact", "cursor", "last", "dropped"


class _Stored(NamedTuple):
    number: int
    data: bytes


class _Facts:
    """The facts of one application, oldest first."""

    def __init__(self) -> None:
        self.stored: deque[_Stored] = deque()
        self.bytes = 0

    def put(self, stored: _Stored) -> None:
        self.stored.append(stored)
        self.bytes += len(stored.data)

    def drop_oldest(self) -> int:
        """Drop the oldest fact, and return its bytes."""
        size = len(self.stored.popleft().data)
        self.bytes -= size
        return size

    def after(self, number: int, limit: int) -> Iterator[_Stored]:
        first = bisect_right(self.stored, number, key=attrgetter("number"))
        return islice(self.stored, first, first + limit)


class LocalOutbox:
    """Keeps the facts in this process, in their stored form."""

    beginning: Cursor = (0,)

    def __init__(self, settings: OutboxSettings) -> None:
        self._settings = settings
        self._facts: defaultdict[str, _Facts] = defaultdict(_Facts)
        self._cursors: dict[str, Cursor] = {}
        self._last = 0
        self._kept = 0
        self._bytes = 0
        self._dropped = 0

    def keep(self, fact: Fact) -> None:
        """Keep a fact; beyond the bounds the oldest ones of its application are dropped, or of the one that keeps most."""
        self._last += 1
        facts, most = self._facts[app_of(fact)], self._settings
        self._put(facts, _Stored(self._last, encode(fact)))
        while len(facts.stored) > most.most_facts or facts.bytes > most.most_bytes:
            self._drop_oldest(facts)
            self._dropped += 1
        while (is_too_big := self._bytes > most.total_bytes) or self._kept > most.total_facts:
            size_of = attrgetter("bytes") if is_too_big else _count_of
            self._drop_oldest(max(self._facts.values(), key=size_of))
            self._dropped += 1

    def _put(self, facts: _Facts, stored: _Stored) -> None:
        facts.put(stored)
        self._kept += 1
        self._bytes += len(stored.data)

    def _drop_oldest(self, facts: _Facts) -> None:
        self._kept -= 1
        self._bytes -= facts.drop_oldest()

    # -- the port

    async def append(self, facts: Sequence[Fact]) -> None:
        for fact in facts:
            self.keep(fact)

    async def read(self, app_id: str, after: Cursor, limit: int) -> list[Kept]:
        facts = self._facts.get(app_id)
        return [] if facts is None else [Kept(0, *_read(each)) for each in facts.after(after[0], limit)]

    async def cursors(self) -> dict[str, Cursor]:
        return dict(self._cursors)

    async def settle(self, token: int, cursors: CursorsOfApps) -> bool:
        self._cursors = merged(cursors)
        through = passed_by_all(cursors, 0)
        for app_id, facts in self._facts.items():
            while facts.stored and facts.stored[0].number <= through.get(app_id, self._last):
                self._drop_oldest(facts)
        return True

    async def hold(self, ttl_s: float) -> int | None:
        return 1

    async def release(self) -> None:
        """Do nothing: no other node sends."""

    async def state(self) -> OutboxState:
        return OutboxState(self._kept, self._bytes, self._dropped)

    # -- the move to another process

    def rows(self) -> Iterator[Row]:
        """Yield everything for another process; nothing is appended meanwhile."""
        if not self._last:
            return
        yield from (
            (FACT, stored.number, stored.data) for facts in self._facts.values() for stored in facts.stored
        )
        yield from ((CURSOR, cursor[0], name.encode()) for name, cursor in self._cursors.items())
        yield LAST, self._last, b""
        yield DROPPED, self._dropped, b""

    def restore(self, rows: Sequence[Row]) -> None:
        """Take the rows of another process, before anything is appended."""
        for what, number, data in rows:
            if what == FACT:
                fact = decode(data)
                if fact is not None:
                    self._put(self._facts[app_of(fact)], _Stored(number, data))
            elif what == CURSOR:
                self._cursors[data.decode()] = (number,)
            elif what == LAST:
                self._last = number
            else:
                self._dropped = number


def _read(stored: _Stored) -> tuple[int, Fact | None]:
    return stored.number, decode(stored.data)


def _count_of(facts: _Facts) -> int:
    return len(facts.stored)
