"""The outbox of an engine that keeps everything in this process."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from channelstream.core.facts import Fact, decode, encode
from channelstream.engines.outbox import Cursor, Kept, OutboxSettings, OutboxState, lowest

Row = tuple[str, int, bytes]
"""On the way to another process: what it is, its number, and the stored form of a fact or the name of a consumer."""
FACT, CURSOR, LAST, DROPPED = "fact", "cursor", "last", "dropped"


class _Stored(NamedTuple):
    number: int
    data: bytes


class LocalOutbox:
    """Keeps the facts in this process, in their stored form."""

    beginning: Cursor = (0,)

    def __init__(self, settings: OutboxSettings) -> None:
        self._settings = settings
        self._facts: deque[_Stored] = deque()
        self._cursors: dict[str, Cursor] = {}
        self._last = 0
        self._bytes = 0
        self._dropped = 0

    def keep(self, fact: Fact) -> None:
        """Keep a fact; beyond the bounds the oldest ones are dropped."""
        self._last += 1
        self._put(_Stored(self._last, encode(fact)))
        most = self._settings
        while len(self._facts) > most.most_facts or self._bytes > most.most_bytes:
            self._drop_oldest()
            self._dropped += 1

    def _put(self, stored: _Stored) -> None:
        self._facts.append(stored)
        self._bytes += len(stored.data)

    def _drop_oldest(self) -> None:
        self._bytes -= len(self._facts.popleft().data)

    # -- the port

    async def append(self, facts: Sequence[Fact]) -> None:
        for fact in facts:
            self.keep(fact)

    async def read(self, after: Cursor, limit: int) -> list[Kept]:
        if not self._facts:
            return []
        # Numbers have no gaps here.
        first = max(0, after[0] + 1 - self._facts[0].number)
        return [Kept(0, *_read(stored)) for stored in islice(self._facts, first, first + limit)]

    async def cursors(self) -> dict[str, Cursor]:
        return dict(self._cursors)

    async def settle(self, token: int, cursors: Mapping[str, Cursor]) -> bool:
        self._cursors = dict(cursors)
        through = lowest(cursors.values(), 0)
        while self._facts and self._facts[0].number <= through:
            self._drop_oldest()
        return True

    async def hold(self, ttl_s: float) -> int | None:
        return 1

    async def release(self) -> None:
        """Do nothing: no other node sends."""

    async def state(self) -> OutboxState:
        return OutboxState((self._last,), (len(self._facts),), self._bytes, self._dropped)

    # -- the move to another process

    def rows(self) -> Iterator[Row]:
        """Yield everything for another process; nothing is appended meanwhile."""
        if not self._last:
            return
        yield from ((FACT, stored.number, stored.data) for stored in self._facts)
        yield from ((CURSOR, cursor[0], name.encode()) for name, cursor in self._cursors.items())
        yield LAST, self._last, b""
        yield DROPPED, self._dropped, b""

    def restore(self, rows: Sequence[Row]) -> None:
        """Take the rows of another process, before anything is appended."""
        for what, number, data in rows:
            if what == FACT:
                self._put(_Stored(number, data))
            elif what == CURSOR:
                self._cursors[data.decode()] = (number,)
            elif what == LAST:
                self._last = number
            else:
                self._dropped = number


def _read(stored: _Stored) -> tuple[int, Fact | None]:
    return stored.number, decode(stored.data)
