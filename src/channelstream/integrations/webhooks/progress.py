"""How far a receiver is: the facts that were read for it and not sent yet, and the cursor before the first of them."""

from collections import OrderedDict
from itertools import islice
from typing import NamedTuple

from channelstream.service import Cursor, Kept


class ReachedShard(NamedTuple):
    """What of a shard is done.

    Attributes:
        read: the number of the last fact that was read.
        left: the numbers of those before it that are neither sent nor left out.
    """

    read: int
    left: frozenset[int]


Reached = tuple[ReachedShard, ...]
"""For each shard what is done of it; empty if that is not known."""


class Progress:
    """The facts of one receiver on their way."""

    def __init__(self, begin: Cursor, reached: Reached) -> None:
        """Begin behind a cursor.

        Args:
            reached: what an earlier sender had done.
        """
        self._read = list(begin)
        self._open: list[OrderedDict[int, None]] = [OrderedDict() for _ in begin]
        self._reached = reached if len(reached) == len(begin) else ()

    @property
    def read(self) -> Cursor:
        """The cursor behind everything that was read."""
        return tuple(self._read)

    @property
    def cursor(self) -> Cursor:
        """The cursor before the first fact that is neither sent nor left out."""
        return tuple(
            next(iter(numbers)) - 1 if numbers else read
            for numbers, read in zip(self._open, self._read, strict=True)
        )

    @property
    def open(self) -> int:
        """How many facts are neither sent nor left out."""
        return sum(map(len, self._open))

    def reached(self, most: int) -> Reached:
        """Return what is done, up to the place where so many facts are not, of all shards together."""
        share = most // len(self._read)
        return tuple(
            _reached(numbers, read, share) for numbers, read in zip(self._open, self._read, strict=True)
        )

    def begin(self, kept: Kept) -> bool:
        """Record that a fact was read, those of a shard in order; return whether an earlier sender had done it."""
        self._read[kept.shard] = kept.number
        if self._was_done(kept):
            return True
        self._open[kept.shard][kept.number] = None
        return False

    def _was_done(self, kept: Kept) -> bool:
        if not self._reached:
            return False
        known = self._reached[kept.shard]
        return kept.number <= known.read and kept.number not in known.left

    def end(self, kept: Kept) -> None:
        """Record that a fact is sent, or left out."""
        self._open[kept.shard].pop(kept.number, None)


def _reached(numbers: OrderedDict[int, None], read: int, most: int) -> ReachedShard:
    left = list(islice(numbers, most + 1))
    if len(left) > most:
        read = left.pop() - 1
    return ReachedShard(read, frozenset(left))
