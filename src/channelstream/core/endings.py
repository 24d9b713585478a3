"""How streams and connections ended lately, for whoever asks why."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

KEPT = 1000
"""Endings a node remembers; at the bound the oldest is forgotten."""


@dataclass(frozen=True, slots=True)
class Ending:
    """One stream, or one connection with all it had, that came to its end.

    Attributes:
        at_s: when, in epoch seconds.
        code: the close code; None when the line was lost without one.
        reason: in words.
        final: the connection is over; otherwise it may still come back.
    """

    at_s: float
    conn_id: str
    user: str
    code: int | None
    reason: str
    final: bool


class Endings:
    """The last endings of a node, oldest first."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept: deque[Ending] = deque(maxlen=kept)

    def add(self, ending: Ending) -> None:
        self._kept.append(ending)

    def latest(self, count: int) -> list[Ending]:
        """Return the last ones, newest first."""
        return list(islice(reversed(self._kept), count))

    def of(self, conn_id: str, count: int) -> list[Ending]:
        """Return the last ones of a connection, newest first."""
        mine: Iterable[Ending] = (ending for ending in reversed(self._kept) if ending.conn_id == conn_id)
        return list(islice(mine, count))
