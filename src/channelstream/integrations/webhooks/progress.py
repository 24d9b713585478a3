"""How far a receiver is: the facts that were read for it and not sent yet, and the cursor before the first of them."""

from collections import OrderedDict

from channelstream.service import Cursor, Kept


class Progress:
    """The facts of one receiver on their way."""

    def __init__(self, begin: Cursor) -> None:
        """Begin behind a cursor."""
        self._read = list(begin)
        self._open: list[OrderedDict[int, None]] = [OrderedDict() for _ in begin]

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

    def begin(self, kept: Kept) -> None:
        """Record that a fact was read; those of a shard in order."""
        self._read[kept.shard] = kept.number
        self._open[kept.shard][kept.number] = None

    def end(self, kept: Kept) -> None:
        """Record that a fact is sent, or left out."""
        self._open[kept.shard].pop(kept.number, None)
