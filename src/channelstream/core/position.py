"""Positions: how much of an engine's log a client has received (docs/resume.md).

A log has one shard, or several where it is spread over a Redis cluster. Each shard gives its own events offsets that
grow, and no order exists between shards: one counter for all would be a lock that every publisher waits for. So a
position has an offset and an epoch for each shard.

The epoch is the identity of a shard's log. It changes when the log is lost, for example with a restart of the memory
engine. Offsets begin again then, and an old one that happens to exist in the new log must not be taken for the same
event. So an offset counts only together with its epoch, and everything else is -1: nothing can be proven, and the
client is sent that the channels of this shard are lost.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple
from zlib import crc32

from msgspec import Struct

MAX_SHARDS = 16
"""Most shards of a log: each lengthens the position of every event by 18 to 28 characters."""
MAX_TEXT = 512
"""Longest position a client may send; ours are below 30 characters for each shard."""
MAX_OFFSET = (1 << 53) - 1
"""Highest offset in a position: engines that count in doubles are exact up to here."""

DRAWS_PER_SHARD = 10
"""Most ids drawn to find one in a certain shard: in one of 22,000 cases there is none among them."""

Offsets = tuple[int, ...]
"""One offset for each shard."""


def shard_of(name: str, shards: int) -> int:
    """Return the shard of a channel's or a user's events, out of `shards` (CRC-32 of the name, modulo)."""
    return crc32(name.encode()) % shards if shards > 1 else 0


def draw_in_shard(draw: Callable[[], str], name: str, shards: int) -> str:
    """Return an id in the shard of a name if one is found soon, so that what has both depends on one shard less.

    Args:
        draw: returns a new id.
    """
    drawn = draw()
    for _ in range(DRAWS_PER_SHARD * shards):
        if shard_of(drawn, shards) == shard_of(name, shards):
            break
        drawn = draw()
    return drawn


def max_offsets(one: Offsets, other: Offsets) -> Offsets:
    """Return the higher offset of each shard."""
    return tuple(map(max, one, other))


def min_offsets(one: Offsets, other: Offsets) -> Offsets:
    """Return the lower offset of each shard."""
    return tuple(map(min, one, other))


def with_offset(offsets: Offsets, shard: int, offset: int) -> Offsets:
    """Return the offsets with another one for a shard."""
    return (*offsets[:shard], offset, *offsets[shard + 1 :])


class Position(Struct, frozen=True):
    """The epoch and the last offset of each shard."""

    epochs: tuple[str, ...]
    offsets: Offsets

    @classmethod
    def single(cls, epoch: str, offset: int) -> "Position":
        """Return a position in a log with one shard."""
        return cls((epoch,), (offset,))

    def __str__(self) -> str:
        return format_position(self.epochs, self.offsets)

    def offset_in(self, epochs: Sequence[str], shard: int) -> int:
        """Return its offset in a shard of the log with these epochs; -1 if it is a position in another log."""
        is_same_log = len(self.epochs) == len(epochs) and self.epochs[shard] == epochs[shard]
        return self.offsets[shard] if is_same_log else -1

    @classmethod
    def parse(cls, text: str) -> "Position | None":
        """Return the position that a client sent; None if the text is not a position."""
        front, _, numbers = text.rpartition("-")
        # It may be sent back as a line of an event stream, so it must be printable ASCII.
        if len(text) > MAX_TEXT or not (text.isascii() and text.isprintable()):
            return None
        epochs, offsets = front.split("."), numbers.split(".")
        if len(epochs) != len(offsets) or not all(epochs) or not all(map(str.isdigit, offsets)):
            return None
        found = tuple(map(int, offsets))
        return None if max(found) > MAX_OFFSET else cls(tuple(epochs), found)


UNKNOWN_POSITION = Position((), ())
"""Stands for a text that is not a position: it is in no log."""


class ReadRange(NamedTuple):
    """The part of a channel's log, or of its user's private log, that a connection may read.

    Attributes:
        joined: the offset after which it is a member.
        since: the offset after which it may read: the same, unless the application named an earlier position. -1 if
            that position is not in this log: then nothing up to `joined` may be read, and what was missed cannot be
            proven.
    """

    joined: int
    since: int

    @staticmethod
    @lru_cache(maxsize=1_000)
    def of(joined: int, requested: int | None = None) -> "ReadRange":
        """Return the range of a member; those that join at the same offset share it.

        Args:
            joined: the offset after which it is a member.
            requested: the offset that the application named; -1 for a position in another log, None if it named none.
        """
        since = joined if requested is None else requested if requested <= joined else -1
        return ReadRange(joined, since)

    @classmethod
    def granted(cls, joined: int, since: Position | None, epochs: Sequence[str], shard: int) -> "ReadRange":
        """Return the range of a member in a shard of the log with these epochs.

        Args:
            since: the position that the application named, or None.
        """
        return cls.of(joined, None if since is None else since.offset_in(epochs, shard))

    @property
    def bound(self) -> int:
        """The highest offset that the connection may not read."""
        return self.joined if self.since < 0 else self.since

    def start(self, delivered: int) -> int:
        """Return the offset after which a client at `delivered` reads on; -1 where nothing can be proven.

        Events before the range were never the connection's, so a client that lacks them misses nothing.
        """
        if delivered >= self.joined:
            return delivered
        return -1 if delivered < 0 or self.since < 0 else max(delivered, self.since)


def format_position(epochs: Iterable[str], offsets: Offsets) -> str:
    """Return a position in the form that clients see: `<epoch>-<offset>`, with dots between those of several shards."""
    return f"{'.'.join(epochs)}-{'.'.join(map(str, offsets))}"
