"""The last ends of streams and connections, with their reasons, and how many there were of each reason."""

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import NamedTuple

from channelstream.close_codes import CloseCode

KEPT = 1000
"""Endings of a node that are kept, whatever they are."""
KEPT_OF_GROUP = 20
"""Endings of each group that are kept besides; at the bound its oldest is dropped."""
GROUPS = 64
"""Most groups that differ by their reasons. Those that come later are one for each code."""
REASON_CHARACTERS = 60
"""How much of a reason makes a group, in characters."""
OTHER_REASONS = "other reasons"
GOING_AWAY = 1001
"""The code of a page that is left (RFC 6455, 7.4.1); only clients send it."""
CODES = {int(code): str(int(code)) for code in CloseCode} | {GOING_AWAY: str(GOING_AWAY)}
"""The close codes that are known. Clients may send any."""
NO_CODE, OTHER = "none", "other"


def code_label(code: int | None) -> str:
    """Return a close code as one of few texts."""
    return NO_CODE if code is None else CODES.get(code, OTHER)


class Group(NamedTuple):
    """Endings of one kind.

    Attributes:
        code: the label of the close code.
        final: of connections; if not, only of their streams.
        reason: for people.
    """

    code: str
    final: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of a stream, or of a connection.

    Attributes:
        at_s: its time, in epoch seconds.
        code: the close code; None if the socket was lost without one.
        reason: for people.
        final: the connection has ended; if not, only its stream.
    """

    at_s: float
    conn_id: str
    user: str
    code: int | None
    reason: str
    final: bool


class Endings:
    """The last endings of a node. Those of a rare group are kept longer, so that routine ones push nothing out.

    Attributes:
        counts: how many there were of each group since the start.
    """

    def __init__(self, kept: int = KEPT) -> None:
        self.counts: Counter[Group] = Counter()
        self._latest: deque[Ending] = deque(maxlen=kept)
        self._older: dict[Group, deque[Ending]] = {}

    def add(self, ending: Ending) -> None:
        if len(self._latest) == self._latest.maxlen:
            oldest = self._latest[0]
            self._older.setdefault(self.group(oldest), deque(maxlen=KEPT_OF_GROUP)).append(oldest)
        self._latest.append(ending)
        self.counts[self.group(ending)] += 1

    def group(self, ending: Ending) -> Group:
        """Return the group of an ending, which is counted or is about to be."""
        group = Group(code_label(ending.code), ending.final, ending.reason[:REASON_CHARACTERS])
        if group in self.counts or len(self.counts) < GROUPS:
            return group
        return group._replace(reason=OTHER_REASONS)

    def __iter__(self) -> Iterator[Ending]:
        """Iterate over them, newest first."""
        older = sorted(chain(*self._older.values()), key=lambda ending: ending.at_s, reverse=True)
        return chain(reversed(self._latest), older)

    def of(self, conn_id: str, count: int) -> list[Ending]:
        """Return the last `count` of a connection, newest first."""
        mine: Iterable[Ending] = (ending for ending in self if ending.conn_id == conn_id)
        return list(islice(mine, count))
