"""Bounded logs of accepted events, and the byte budget they share.

Every channel has one log for resuming and one for the history shown by `/info`; every user has one for private
messages. A log knows the highest number it dropped, so that it never has to guess whether it still reaches back
to a position.
"""

from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice

from channelstream.core.deadlines import SLOT_S, Deadlines
from channelstream.core.events import Dialect, Event, Message, UsersLeft
from channelstream.core.position import Offsets, format_position, with_offset

ENTRY_OVERHEAD = 700
"""Bytes an entry costs besides its payload: objects, keys and one encoded form (measured, docs/performance.md)."""
EXPIRED_AT_ONCE = 500
"""Entries that are freed at a stretch."""
DIALECTS = len(Dialect)


class Entry:
    """An event with its number in the engine's log.

    Attributes:
        seq: grows by at least one per event in one shard of the log; of an event with several numbers the last one.
        shard: which shard that is.
        seqs: up to where whoever hears this has heard every shard, with this; its own number is that of this shard.
        position: that as the clients see it.
        at_s: when it was accepted, in the engine's clock.
        items: its JSON form per dialect, made at first use and then shared by all recipients.
        size: bytes it counts for in the budget.
    """

    __slots__ = ("at_s", "event", "items", "offset", "offsets", "position", "shard", "size")

    def __init__(
        self,
        offset: int,
        position: str,
        at_s: float,
        event: Event,
        shard: int = 0,
        offsets: Offsets | None = None,
    ) -> None:
        """Create an entry; without `offsets` it is one of a log that is in one shard."""
        self.offset = offset
        self.shard = shard
        self.offsets = (offset,) if offsets is None else offsets
        self.position = position
        self.at_s = at_s
        self.event = event
        self.items: list[bytes | None] = [None] * DIALECTS
        self.size = ENTRY_OVERHEAD + event.size_bytes()

    def with_event(self, event: Event) -> "Entry":
        """Return the same place in the log holding another event: history after an edit."""
        return Entry(self.offset, self.position, self.at_s, event, self.shard, self.offsets)

    @property
    def first_offset(self) -> int:
        """The first of its numbers."""
        return self.offset - self.event.count + 1

    @property
    def offsets_before(self) -> Offsets:
        """Up to where whoever waits for this has heard every shard."""
        return with_offset(self.offsets, self.shard, self.first_offset - 1)

    def after(self, offset: int) -> "Entry":
        """Return this as it is read by who has heard everything up to a number that may be one of its own."""
        event = self.event
        if offset < self.first_offset or not isinstance(event, UsersLeft):
            return self
        return self.with_event(event.after(self.offset - offset - 1))

    def for_user(self, user: str) -> "Entry":
        """Return this as a user hears it, who hears something of it."""
        event = self.event
        if not isinstance(event, UsersLeft) or user not in event.about:
            return self
        others = event.without(user)
        if not others.gone[-1].back:
            return self.with_event(others)
        # Its own number was the last one: the position is that of the last item it is sent.
        offset = self.offset - others.gone[-1].back
        offsets = with_offset(self.offsets, self.shard, offset)
        epochs = self.position.rpartition("-")[0]
        return Entry(
            offset, format_position((epochs,), offsets), self.at_s, others.ended(), self.shard, offsets
        )

    def split(self) -> "list[Entry]":
        """Return an entry for each of its numbers that stands for an item."""
        if not isinstance(self.event, UsersLeft):
            return [self]
        epochs = self.position.rpartition("-")[0]
        return [
            Entry(self.offset - back, format_position((epochs,), (self.offset - back,)), self.at_s, single)
            for back, single in self.event.split()
        ]

    def advanced_to(self, delivered: Offsets) -> "Entry":
        """Return this as a client hears it that has heard more of other shards: its position is not behind that."""
        offsets = with_offset(delivered, self.shard, self.offset)
        if offsets == self.offsets:
            return self
        epochs = self.position.rpartition("-")[0]
        return Entry(
            self.offset, format_position((epochs,), offsets), self.at_s, self.event, self.shard, offsets
        )


def advance_positions(delivered: Offsets, entries: Iterable[Entry]) -> Iterator[Entry]:
    """Yield entries as a client hears them, one after the other, that has heard this much before."""
    for entry in entries:
        told = entry.advanced_to(delivered)
        delivered = told.offsets
        yield told


@dataclass(frozen=True, slots=True)
class LogLimits:
    """How much a log keeps: at most `events` entries, none older than `age_s` seconds (None: any age)."""

    events: int
    age_s: float | None = None


class Budget:
    """The bytes all logs of the process may hold together.

    At the bound the oldest entries of the log that was quiet for the longest time go first.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self._by_last_append: OrderedDict[Log, None] = OrderedDict()
        self._ages: Deadlines[Log] = Deadlines()

    def added(self, log: "Log", size: int) -> None:
        self.used_bytes += size
        self._by_last_append[log] = None
        self._by_last_append.move_to_end(log)
        if log not in self._ages:
            self.ages(log)
        while self.used_bytes > self.limit_bytes:
            next(iter(self._by_last_append)).drop_oldest(1)

    def dropped(self, log: "Log", size: int) -> None:
        self.used_bytes -= size
        if not log.entries:
            self._by_last_append.pop(log, None)
            self._ages.drop(log)

    def ages(self, log: "Log") -> None:
        """Note when the oldest entry of a log grows too old."""
        expires_s = log.expires_s
        if expires_s is None:
            self._ages.drop(log)
        else:
            self._ages.set(log, expires_s + SLOT_S)  # At that moment it is just old enough to stay.

    def sweep(self, now_s: float) -> Iterator[None]:
        """Free what has grown too old, a little at each step; no log is looked at of which nothing has."""
        while (log := self._ages.due(now_s)) is not None:
            log.expire(now_s, EXPIRED_AT_ONCE)
            self.ages(log)
            yield


class Log:
    """Events of one channel or user, oldest first, inside its limits.

    Attributes:
        floor: the highest number this log no longer holds; whoever has heard everything up to there misses nothing.
    """

    __slots__ = ("_about", "_budget", "entries", "floor", "limits")

    def __init__(self, limits: LogLimits, budget: Budget, floor: int) -> None:
        self.entries: list[Entry] = []
        self.limits = limits
        self.floor = floor
        self._budget = budget
        self._about: dict[str, tuple[Entry, ...]] | None = None

    def append(self, entry: Entry) -> None:
        """Keep the newest event; room is made first, so that a full log never costs another one its entries."""
        self.drop_oldest(len(self.entries) + 1 - self.limits.events)
        if self.limits.events <= 0:
            self.floor = entry.offset
            return
        self.entries.append(entry)
        self._note(entry)
        self._budget.added(self, entry.size)

    @property
    def expires_s(self) -> float | None:
        """When the oldest entry grows too old, in the engine's clock; None where it never does."""
        if not self.entries or self.limits.age_s is None:
            return None
        return self.entries[0].at_s + self.limits.age_s

    def since(self, offset: int, now_s: float) -> Iterator[Entry]:
        """Yield the entries after `offset`, after expiring what is too old.

        The result is complete if `offset` is not below the floor. It is lazy: a caller that reads many long logs takes a
        few entries of each at a time.
        """
        self.expire(now_s)
        if not self.entries or self.entries[-1].offset <= offset:
            return iter(())
        begin = bisect_right(self.entries, offset, key=_offset)
        rest = map(self.entries.__getitem__, range(begin + 1, len(self.entries)))
        return chain((self.entries[begin].after(offset),), rest)

    def about(self, uuid: str) -> tuple[Entry, ...]:
        """Return the message with this uuid, and its edits and deletions, as far as the log holds them."""
        return self._about.get(uuid, ()) if self._about else ()

    def supersede(self, old: Entry, new: Entry | None) -> None:
        """Put `new` where `old` stands, or nothing: no number is lost by that, so the floor stays."""
        at = bisect_left(self.entries, old.offset, key=_offset)
        if self.entries[at : at + 1] != [old]:
            return  # It was dropped meanwhile.
        self.entries[at : at + 1] = [] if new is None else [new]
        self._forget([old])
        if new is not None:
            self._note(new)
            self._budget.added(self, new.size)

    def limit(self, limits: LogLimits, now_s: float) -> None:
        """Change what the log may keep, at once."""
        self.limits = limits
        self.drop_oldest(len(self.entries) - limits.events)
        self.expire(now_s)
        self._budget.ages(self)

    def restore(self, entries: list[Entry], floor: int) -> None:
        """Undo what was dropped since the log held these entries above this floor; nothing was appended since."""
        gone = entries[: bisect_right(entries, self.floor, key=_offset)]
        self.floor = floor
        if not gone:
            return
        self.entries[:0] = gone
        for entry in gone:
            self._note(entry)
        self._budget.added(self, sum(entry.size for entry in gone))
        self._budget.ages(self)

    def expire(self, now_s: float, most: int | None = None) -> None:
        """Drop what is older than the log's age limit, or the oldest of it, so many entries at most."""
        if self.limits.age_s is None:
            return
        oldest_s = now_s - self.limits.age_s
        count = 0
        for entry in islice(self.entries, most):
            if entry.at_s >= oldest_s:
                break
            count += 1
        self.drop_oldest(count)

    def drop_oldest(self, count: int) -> None:
        """Forget the `count` oldest entries and raise the floor over them."""
        if count <= 0 or not self.entries:
            return
        gone = self.entries[:count]
        del self.entries[:count]
        self.floor = max(self.floor, gone[-1].offset)
        self._forget(gone)

    def drop_through(self, offset: int) -> None:
        """Forget everything up to a number, which need not be there any more, and raise the floor to it."""
        self.drop_oldest(bisect_right(self.entries, offset, key=_offset))
        self.floor = max(self.floor, offset)

    def clear(self) -> None:
        self.drop_oldest(len(self.entries))

    def _note(self, entry: Entry) -> None:
        event = entry.event
        if isinstance(event, Message) or event.supersedes is not None:
            if self._about is None:
                self._about = {}
            known = self._about.get(event.uuid)
            self._about[event.uuid] = (
                (entry,) if known is None else tuple(sorted((*known, entry), key=_offset))
            )

    def _forget(self, gone: Iterable[Entry]) -> None:
        size = 0
        for entry in gone:
            size += entry.size
            if self._about and (known := self._about.get(entry.event.uuid)):
                left = tuple(other for other in known if other is not entry)
                if left:
                    self._about[entry.event.uuid] = left
                else:
                    del self._about[entry.event.uuid]
        self._budget.dropped(self, size)


def _offset(entry: Entry) -> int:
    return entry.offset
