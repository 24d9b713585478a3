"""Leaves out what a short absence causes, such as the reload of a page.

What ends waits for `SETTLE_MS`. If it begins again meanwhile, neither is reported. How long it was absent is decided by the
times of the two facts, so a sender that is late, or takes the place of another one, decides as one that is in time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from channelstream.core.facts import (
    ENDS,
    CacheMissed,
    ChannelVacated,
    Fact,
    MemberRemoved,
    UserOffline,
    kind_of,
    subject_of,
)
from channelstream.service import Kept

SETTLE_MS = 3000
"""How long the fact of an end waits for a new beginning, in milliseconds by the times of the facts."""
MISSED_AGAIN_MS = 1000
"""Shortest time between two reports that a channel lacks its last event."""
MOST_HELD = 20_000
"""Most facts that wait; of more, the oldest are reported at once."""

_WAITING = (ChannelVacated, MemberRemoved, UserOffline)
_BEGINS = {begun: ended for begun, ended in ENDS.items() if ended in _WAITING}

_Subject = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Settled:
    """What a step of `Settling` has decided.

    Attributes:
        sent: to be reported, in order.
        dropped: not to be reported.
    """

    sent: list[Kept]
    dropped: list[Kept]


class _Waiting(NamedTuple):
    kept: Kept
    at_ms: int
    read_s: float


class Settling:
    """The facts that wait for one receiver, in the order in which they were added."""

    def __init__(self) -> None:
        self._held: dict[_Subject, _Waiting] = {}
        self._missed_ms: dict[str, int] = {}

    def add(self, kept: Kept, fact: Fact, now_s: float) -> Settled:
        """Take the next fact of a shard.

        Args:
            now_s: by a steady clock.
        """
        if isinstance(fact, CacheMissed):
            return self._add_missed(kept, fact)
        if isinstance(fact, _WAITING):
            key = (kind_of(fact), *subject_of(fact))
            before = self._held.pop(key, None)
            if before is not None:
                # A second end without a beginning in between: both are reported, in order, and so is the next beginning.
                return Settled([before.kept, kept], [])
            self._held[key] = _Waiting(kept, fact.at_ms, now_s)
            return Settled([], [])
        ended = _BEGINS.get(type(fact))
        waiting = self._held.pop((kind_of(ended), *subject_of(fact)), None) if ended else None
        if waiting is None:
            return Settled([kept], [])
        if fact.at_ms - waiting.at_ms <= SETTLE_MS:
            return Settled([], [waiting.kept, kept])
        return Settled([waiting.kept, kept], [])

    def _add_missed(self, kept: Kept, fact: CacheMissed) -> Settled:
        # Each fact adds a time and may remove the two oldest: so the table shrinks without a task of its own.
        for name, at_ms in list(islice(self._missed_ms.items(), 2)):
            if abs(fact.at_ms - at_ms) >= MISSED_AGAIN_MS:
                del self._missed_ms[name]
        before_ms = self._missed_ms.get(fact.channel)
        if before_ms is not None and abs(fact.at_ms - before_ms) < MISSED_AGAIN_MS:
            return Settled([], [kept])
        self._missed_ms.pop(fact.channel, None)
        self._missed_ms[fact.channel] = fact.at_ms
        return Settled([kept], [])

    def due(self, horizons_ms: Sequence[int], all_read_s: float) -> list[Kept]:
        """Return those that have ended for good, oldest first; in each shard none before an older one.

        Args:
            horizons_ms: for each shard the time of the last fact that was added.
            all_read_s: the last time at which no shard had a further fact, by the clock of `add`.
        """
        found: list[_Subject] = []
        undecided: set[int] = set()
        for key, (kept, at_ms, read_s) in self._held.items():
            # Very many wait when a node with all of its clients is gone, and this is asked several times a second.
            if len(undecided) == len(horizons_ms):
                break
            if kept.shard in undecided:
                continue
            if horizons_ms[kept.shard] > at_ms + SETTLE_MS or read_s + SETTLE_MS / 1000 <= all_read_s:
                found.append(key)
            else:
                undecided.add(kept.shard)
        too_many = len(self._held) - len(found) - MOST_HELD
        if too_many > 0:
            found = list(islice(self._held, len(found) + too_many))
        return [self._held.pop(key).kept for key in found]
