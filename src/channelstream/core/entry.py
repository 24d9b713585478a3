"""An accepted event with its place in the log."""

from collections.abc import Callable, Iterable, Iterator

from channelstream.core.events import Event, UsersLeft
from channelstream.core.position import Offsets, format_position, with_offset

ENTRY_OVERHEAD = 700
"""Memory of an entry besides its payload, in bytes: objects, keys and one encoded form (measured)."""
HELD_BYTES = 150
"""Memory of an entry in each further log, in bytes: its places in the list and in the index (measured)."""


class Entry:
    """An event with its offset in the engine's log.

    Attributes:
        offset: grows by at least one with each event of the shard; of an event with several offsets the last one.
        epochs: of the shards of the log.
        shard: the shard of the log.
        offsets: the position after this entry: one offset for each shard; that of `shard` is `offset`.
        at_s: when it was accepted, in the engine's clock.
        items: its items, each at the number of its form (`Format.form`); made at first use, then shared by all recipients.
        size: bytes that it counts for in the budget, once for all the logs that hold it.
        logs: the logs that hold it, or have dropped it and not freed it yet.
    """

    __slots__ = ("at_s", "epochs", "event", "items", "logs", "offset", "offsets", "shard", "size")

    def __init__(
        self,
        offset: int,
        epochs: tuple[str, ...],
        at_s: float,
        event: Event,
        shard: int = 0,
        offsets: Offsets | None = None,
    ) -> None:
        """Create an entry; without `offsets`, of a log with one shard."""
        self.offset = offset
        self.shard = shard
        self.offsets = (offset,) if offsets is None else offsets
        self.epochs = epochs
        self.at_s = at_s
        self.event = event
        self.items: list[bytes | None] | None = None
        self.size = ENTRY_OVERHEAD + event.size_bytes()
        self.logs = 0

    def held(self) -> int:
        """Count one more log that holds it; return the bytes that it counts for there."""
        self.logs += 1
        return HELD_BYTES if self.logs > 1 else self.size

    def freed(self) -> int:
        """Count one log less that holds it; return the bytes that it no longer counts for."""
        self.logs -= 1
        return HELD_BYTES if self.logs else self.size

    def item(self, form: int, encode: Callable[["Entry"], bytes | None]) -> bytes | None:
        """Return its item in a form, encoded at the first call and kept."""
        items = self.items
        if items is None:
            items = self.items = [None] * (form + 1)
        elif len(items) <= form:
            items += [None] * (form + 1 - len(items))
        data = items[form]
        if data is None:
            data = items[form] = encode(self)
        return data

    def with_event(self, event: Event) -> "Entry":
        """Return an entry at the same offset with another event, such as a message after an edit."""
        return self._at(self.offsets, event)

    def _at(self, offsets: Offsets, event: Event) -> "Entry":
        """Return an entry of the same log with another position and event."""
        return Entry(offsets[self.shard], self.epochs, self.at_s, event, self.shard, offsets)

    @property
    def position(self) -> str:
        """The position after this entry in the form that clients see."""
        return format_position(self.epochs, self.offsets)

    @property
    def first_offset(self) -> int:
        """The first of its offsets."""
        return self.offset - self.event.count + 1

    @property
    def offsets_before(self) -> Offsets:
        """The position before this entry: one offset for each shard."""
        return with_offset(self.offsets, self.shard, self.first_offset - 1)

    def after(self, offset: int) -> "Entry":
        """Return the rest of this entry for a client at `offset`, which may be one of its own offsets."""
        event = self.event
        if offset < self.first_offset or not isinstance(event, UsersLeft):
            return self
        return self.with_event(event.after(self.offset - offset - 1))

    def for_user(self, user: str) -> "Entry":
        """Return this entry as this user receives it, who receives at least a part of it."""
        event = self.event
        if not isinstance(event, UsersLeft) or user not in event.about:
            return self
        rest = event.without(user)
        if not rest.departures[-1].behind:
            return self.with_event(rest)
        # The user's own departure was the last item. The position must be that of the last item that it is sent.
        offset = self.offset - rest.departures[-1].behind
        return self._at(with_offset(self.offsets, self.shard, offset), rest.rebased())

    def split(self) -> "list[Entry]":
        """Return an entry for each of its items."""
        if not isinstance(self.event, UsersLeft):
            return [self]
        return [
            self._at(with_offset(self.offsets, self.shard, self.offset - behind), single)
            for behind, single in self.event.split()
        ]

    def advanced_to(self, delivered: Offsets) -> "Entry":
        """Return this entry for a client that was sent more of other shards: its position must not go back there."""
        offsets = with_offset(delivered, self.shard, self.offset)
        return self if offsets == self.offsets else self._at(offsets, self.event)


def advance_positions(delivered: Offsets, entries: Iterable[Entry]) -> Iterator[Entry]:
    """Yield entries with positions that never go back, for a client at `delivered`."""
    for entry in entries:
        advanced = entry.advanced_to(delivered)
        delivered = advanced.offsets
        yield advanced
