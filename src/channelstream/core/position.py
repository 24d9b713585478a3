"""Positions: how far a client has heard an engine's log (DESIGN of the wire: docs/resume.md).

A log is kept in one shard or in several. Each numbers its own events, in its own order, so that how much was heard is one
number for each of them; an engine that keeps everything in one place has one shard.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from zlib import crc32

MAX_SHARDS = 16
"""Most shards of a log: each lengthens the position of every event by 18 to 28 characters."""
MAX_TEXT = 512
"""Longest position a client may send; ours are below 30 characters for each shard."""

Numbers = tuple[int, ...]
"""For each shard, the number of an event in it."""


def shard_of(name: str, shards: int) -> int:
    """Return which of so many shards a channel's or a user's events are in; any program can reckon it (CRC-32, modulo)."""
    return crc32(name.encode()) % shards if shards > 1 else 0


def later(one: Numbers, other: Numbers) -> Numbers:
    """Return what was heard by whoever has heard both."""
    return tuple(map(max, one, other))


def earlier(one: Numbers, other: Numbers) -> Numbers:
    """Return what is in both."""
    return tuple(map(min, one, other))


def replaced(numbers: Numbers, shard: int, number: int) -> Numbers:
    """Return the numbers with another one for a shard."""
    return (*numbers[:shard], number, *numbers[shard + 1 :])


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a log: of each shard the epoch, which changes when what it held is lost, and the last number."""

    epochs: tuple[str, ...]
    seqs: Numbers

    @classmethod
    def single(cls, epoch: str, seq: int) -> "Position":
        """Return a place in a log of one shard."""
        return cls((epoch,), (seq,))

    def __str__(self) -> str:
        return written(self.epochs, self.seqs)

    @classmethod
    def parse(cls, text: str) -> "Position | None":
        """Read what a client sent; None where it is not a position."""
        front, _, back = text.rpartition("-")
        # It may be repeated to the client as a line of an event stream, so nothing but plain text will do.
        if len(text) > MAX_TEXT or not (text.isascii() and text.isprintable()):
            return None
        epochs, seqs = front.split("."), back.split(".")
        if len(epochs) != len(seqs) or not all(epochs) or not all(map(str.isdigit, seqs)):
            return None
        return cls(tuple(epochs), tuple(map(int, seqs)))


def written(epochs: Iterable[str], seqs: Numbers) -> str:
    """Return a position as clients see it: `<epoch>-<number>`, with dots between those of several shards."""
    return f"{'.'.join(epochs)}-{'.'.join(map(str, seqs))}"
