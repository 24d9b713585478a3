"""The last ends of streams and connections, with their reasons."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

KEPT = 1000
"""Endings of a node; at the bound the oldest is dropped."""


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
    """The last endings of a node."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept: deque[Ending] = deque(maxlen=kept)

    def add(self, ending: Ending) -> None:
        self._kept.append(ending)

    def __iter__(self) -> Iterator[Ending]:
        """Iterate over them, newest first."""
        return reversed(self._kept)

    def of(self, conn_id: str, count: int) -> list[Ending]:
        """Return the last `count` of a connection, newest first."""
        mine: Iterable[Ending] = (ending for ending in reversed(self._kept) if ending.conn_id == conn_id)
        return list(islice(mine, count))
