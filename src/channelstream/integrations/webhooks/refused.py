"""The facts of a lane that their receiver refuses alone, and what waits behind each of them.

The facts of one channel or user are sent in order, so those behind a refused one wait for it; all others are sent meanwhile.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import nsmallest
from operator import attrgetter
from typing import NamedTuple

from channelstream.core.facts import Fact
from channelstream.integrations.webhooks.calling import Attempts
from channelstream.service import Kept

MOST_REFUSED = 64
"""Facts of a lane that are refused at the same time, each of another channel or user; with so many it sends no others."""
MOST_IN_A_ROW = 8
"""Facts refused since the receiver has accepted one; with so many it may refuse all, so that it is sent no others."""
OTHER_S = 30.0
"""How often such a receiver is sent one of the others nevertheless, in seconds: it may fail at many of one type in a row."""
MOST_BEHIND = 2_000
"""Facts of a lane that may wait behind those that are refused."""
MOST_SENT = 20_000
"""Facts that a receiver may be sent while it refuses one: the outbox keeps all of them as long."""

MOST_SHOWN = 50
"""Refused facts of a receiver that are shown; of more, the oldest."""

Item = tuple[Kept, Fact]
"""What the outbox keeps, and the fact in it, which is not None here."""


@dataclass(eq=False, slots=True)
class RefusedFact:
    """A fact that was refused alone.

    Attributes:
        reason: why it was refused last.
        since_s: when it was refused first, by the steady clock.
        due_s: when it is tried again, likewise.
        sent_first: how many facts its receiver had been sent when it was refused first.
        sent_before: the same, or when it failed otherwise last.
        behind: later facts of its channel or user, in order.
        follows_last_try: the one before it of its channel or user had its last try, since its receiver accepts others.
        is_unwanted: an admin has it given up.
    """

    item: Item
    attempts: Attempts
    reason: str
    since_s: float
    due_s: float
    sent_first: int
    sent_before: int
    behind: list[Item] = field(default_factory=list)
    follows_last_try: bool = False
    is_unwanted: bool = False


class Refusal(NamedTuple):
    """A refused fact, as it is shown.

    Attributes:
        since_s: when it was refused first, in epoch seconds.
        reason: why it was refused last.
        behind: how many facts of its channel or user wait for it.
    """

    fact: Fact
    since_s: float
    reason: str
    behind: int


@dataclass(frozen=True, slots=True)
class RefusalSummary:
    """What a receiver refuses alone.

    Attributes:
        count: how many facts.
        is_held_up: facts of other channels and users wait as well, since so many are refused, or wait behind one.
        shown: the oldest, `MOST_SHOWN` at most.
    """

    count: int = 0
    is_held_up: bool = False
    shown: tuple[Refusal, ...] = ()


def all_refusals(lanes: Sequence[RefusalSummary]) -> RefusalSummary:
    """Return what a receiver refuses in all of its lanes."""
    found = (refusal for each in lanes for refusal in each.shown)
    return RefusalSummary(
        sum(each.count for each in lanes),
        any(each.is_held_up for each in lanes),
        tuple(nsmallest(MOST_SHOWN, found, key=attrgetter("since_s"))),
    )


class Refused:
    """The refused facts of a lane."""

    def __init__(self) -> None:
        self._by_place: dict[str, RefusedFact] = {}
        self._tried_last = ""

    def __len__(self) -> int:
        """How many there are."""
        return len(self._by_place)

    def is_full(self, now_s: float, sent: int) -> bool:
        """Whether no others are sent, since the receiver may refuse them as well, or there are very many.

        Args:
            now_s: by the steady clock.
            sent: how many facts the receiver has been sent.
        """
        row = [each for each in self._by_place.values() if each.sent_first == sent]
        others = (now_s - row[0].since_s) // OTHER_S if row else 0
        return len(row) >= MOST_IN_A_ROW + others or len(self._by_place) >= MOST_REFUSED

    def shown(self, begin_s: float) -> tuple[Refusal, ...]:
        """Return the oldest, as they are shown.

        Args:
            begin_s: when the steady clock was 0, in epoch seconds.
        """
        found = nsmallest(MOST_SHOWN, self._by_place.values(), key=attrgetter("since_s"))
        return tuple(
            Refusal(each.item[1], begin_s + each.since_s, each.reason, len(each.behind)) for each in found
        )

    @property
    def behind(self) -> int:
        """How many facts wait behind them."""
        return sum(len(each.behind) for each in self._by_place.values())

    def add(self, refused: RefusedFact) -> None:
        """Add a fact, which was the oldest of its channel or user."""
        place = refused.item[1].place
        refused.follows_last_try = place == self._tried_last
        if not refused.follows_last_try:  # So the receiver may refuse everything from now on.
            self._tried_last = ""
            for each in self._by_place.values():
                each.follows_last_try = False
        self._by_place[place] = refused

    def holds_up(self, item: Item) -> bool:
        """Whether a fact has to wait behind one of them; then it does."""
        refused = self._by_place.get(item[1].place)
        if refused is not None:
            refused.behind.append(item)
        return refused is not None

    def due(self, now_s: float, sent: int) -> RefusedFact | None:
        """Return one that is to be tried now.

        Args:
            now_s: by the steady clock.
            sent: how many facts the receiver has been sent.
        """
        for each in self._by_place.values():
            if each.is_unwanted or each.due_s <= now_s or self.is_last_try(each, sent):
                return each
        return None

    def give_up(self) -> int:
        """Have all facts given up that are refused now; return how many are new. Each is due, and tried no more."""
        wanted = [each for each in self._by_place.values() if not each.is_unwanted]
        for each in wanted:
            each.is_unwanted = True
        return len(wanted)

    def is_last_try(self, refused: RefusedFact, sent: int) -> bool:
        """Whether a fact is given up if it is refused once more.

        That is so if its receiver has accepted others since, and too many of them, or too many wait behind it. Of a channel
        whose facts are all refused this goes for the next one, too: while too many wait nothing else is sent.
        """
        sent_since = sent - refused.sent_before
        if sent_since >= MOST_SENT:
            return True
        if self.behind < MOST_BEHIND or not (sent_since > 0 or refused.follows_last_try):
            return False
        return all(len(each.behind) <= len(refused.behind) for each in self._by_place.values())

    def remove(self, refused: RefusedFact, *, is_last: bool) -> list[Item]:
        """Remove one that was accepted or given up; return what has waited behind it, in order.

        Args:
            is_last: by its last try.
        """
        place = refused.item[1].place
        if is_last:
            self._tried_last = place
        del self._by_place[place]
        return refused.behind
