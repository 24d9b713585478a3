"""Positions: how far a client has heard an engine's log (DESIGN of the wire: docs/resume.md).

A log is kept in one shard or in several. Each numbers its own events, in its own order, so that how much was heard is one
number for each of them; an engine that keeps everything in one place has one shard.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from zlib import crc32

MAX_SHARDS = 16
"""Most shards of a log: each lengthens the position of every event by 18 to 28 characters."""
MAX_TEXT = 512
"""Longest position a client may send; ours are below 30 characters for each shard."""
MAX_OFFSET = (1 << 53) - 1
"""Highest number in a position: up to here engines whose numbers are doubles count exactly."""

Offsets = tuple[int, ...]
"""For each shard, the number of an event in it."""


def shard_of(name: str, shards: int) -> int:
    """Return which of so many shards a channel's or a user's events are in; any program can reckon it (CRC-32, modulo)."""
    return crc32(name.encode()) % shards if shards > 1 else 0


def max_offsets(one: Offsets, other: Offsets) -> Offsets:
    """Return what was heard by whoever has heard both."""
    return tuple(map(max, one, other))


def min_offsets(one: Offsets, other: Offsets) -> Offsets:
    """Return what is in both."""
    return tuple(map(min, one, other))


def with_offset(offsets: Offsets, shard: int, number: int) -> Offsets:
    """Return the numbers with another one for a shard."""
    return (*offsets[:shard], number, *offsets[shard + 1 :])


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a log: of each shard the epoch, which changes when what it held is lost, and the last number."""

    epochs: tuple[str, ...]
    offsets: Offsets

    @classmethod
    def single(cls, epoch: str, offset: int) -> "Position":
        """Return a place in a log of one shard."""
        return cls((epoch,), (offset,))

    def __str__(self) -> str:
        return format_position(self.epochs, self.offsets)

    def offset_in(self, epochs: Sequence[str], shard: int) -> int:
        """Return its number in a shard of the log that has these epochs; -1 where it is a place in another log."""
        is_there = len(self.epochs) == len(epochs) and self.epochs[shard] == epochs[shard]
        return self.offsets[shard] if is_there else -1

    @classmethod
    def parse(cls, text: str) -> "Position | None":
        """Read what a client sent; None where it is not a position."""
        front, _, back = text.rpartition("-")
        # It may be repeated to the client as a line of an event stream, so nothing but plain text will do.
        if len(text) > MAX_TEXT or not (text.isascii() and text.isprintable()):
            return None
        epochs, offsets = front.split("."), back.split(".")
        if len(epochs) != len(offsets) or not all(epochs) or not all(map(str.isdigit, offsets)):
            return None
        found = tuple(map(int, offsets))
        return None if max(found) > MAX_OFFSET else cls(tuple(epochs), found)


UNKNOWN_POSITION = Position((), ())
"""What cannot be read as a position: a place in no log."""


class ReadRange(NamedTuple):
    """From where a connection may read a channel, or its user's private messages, in their shard.

    Attributes:
        joined: the number after which it is a member.
        since: the number after which it may read. Mostly that is the same; an application may name an earlier one. -1 where
            what it named is no place in this log: nothing before `joined` may be read, and nobody can prove what was missed.
    """

    joined: int
    since: int

    @classmethod
    def of(cls, joined: int, named: int | None = None) -> "ReadRange":
        """Return the reach of a member.

        Args:
            named: the number the application has named; -1 for a place in another log, None if it named none.
        """
        since = joined if named is None else named if named <= joined else -1
        return cls(joined, since)

    @property
    def bound(self) -> int:
        """Nothing up to this number is the connection's to read."""
        return self.joined if self.since < 0 else self.since

    def start(self, delivered: int) -> int:
        """Return the number after which a client reads on that has heard this much; -1 where nothing can be proven.

        What lies before the reach was never the connection's, so that it misses nothing there.
        """
        if delivered >= self.joined:
            return delivered
        return -1 if delivered < 0 or self.since < 0 else max(delivered, self.since)


def format_position(epochs: Iterable[str], offsets: Offsets) -> str:
    """Return a position as clients see it: `<epoch>-<number>`, with dots between those of several shards."""
    return f"{'.'.join(epochs)}-{'.'.join(map(str, offsets))}"
