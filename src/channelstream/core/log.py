"""Bounded logs of accepted events.

Every channel has one log for resuming and one for the history in `/info`; every user has one for private messages.

Invariant: a log holds every event above its `floor`, in its current form. So it can prove for any position whether a
client misses something: nothing if the position is not below the floor. A log drops entries for four reasons (its
count, their age, the shared budget, a compaction that loses recipients), and each raises the floor. The alternative,
to compare a position with the oldest entry that is left, cannot tell an empty log that never had an event from one
that has dropped all.

The floor need not be the offset of an event that this log held: a new log begins at the head of its shard, as older
events of its channel may have been dropped with a former log.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from operator import attrgetter
from typing import NamedTuple

from channelstream.core.budget import Budget
from channelstream.core.entry import HELD_BYTES, Entry
from channelstream.core.events import Event, Message
from channelstream.core.position import Offsets

PRIVATE = ""
"""The name that stands for the private messages of a user among the names of channels (docs/resume.md)."""
CUT = 500
"""Most entries that a log frees at once when it drops them; more are freed later, in steps (`Budget.free`)."""
_NONE: list[Entry] = []
"""The entries of each log that never had one, as most of users: a list takes 72 bytes. It is never changed."""
_offset: Callable[[Entry], int] = attrgetter("offset")
_at_s: Callable[[Entry], float] = attrgetter("at_s")


class LogLimits(NamedTuple):
    """Bounds of a log: at most `events` entries, none older than `age_s` seconds (None: of any age)."""

    events: int
    age_s: float | None = None


limits_of = lru_cache(maxsize=1_000)(LogLimits)
"""Returns limits that logs share: most channels have the same, of 72 bytes each."""


class Log:
    """Events of one channel or user, oldest first, within its limits.

    Attributes:
        floor: the highest offset of which this log may lack an event; a client at or above it misses nothing.
        due_slot: when its oldest entry is too old (`core.deadlines`); None if it never is.
        older: its neighbours in the order of the last appends, which `core.linked_order` sets; None at the ends, and while
            the log is empty.
        newer: likewise.
    """

    __slots__ = ("_about", "_budget", "due_slot", "entries", "floor", "limits", "newer", "older")

    def __init__(self, limits: LogLimits, budget: Budget, floor: int) -> None:
        self.entries = _NONE
        self.limits = limits
        self.floor = floor
        self.due_slot: int | None = None
        self.older: Log | None = None
        self.newer: Log | None = None
        self._budget = budget
        self._about: dict[str, tuple[Entry, ...]] | None = None

    def append(self, entry: Entry) -> None:
        """Append the newest event; a full log drops its own oldest entry first, and so costs no other log an entry."""
        event = entry.event
        self.append_about(event.uuid if isinstance(event, Message) else _message_uuid(event), entry)

    def append_about(self, uuid: str | None, entry: Entry) -> None:
        """Append the newest event, of which `append_to_all` knows the uuid of its message; None if it is about none."""
        entries, most = self.entries, self.limits.events
        if most <= 0:
            self.raise_floor(entry.offset)
            return
        while len(entries) >= most:
            self._drop_first()
        if entries is _NONE:
            self.entries = entries = []
        entries.append(entry)
        self._index_as(uuid, entry)
        entry.logs += 1  # As `held`, without a call: a private message has very many logs.
        self._budget.added(self, HELD_BYTES if entry.logs > 1 else entry.size)

    @property
    def expires_s(self) -> float | None:
        """When the oldest entry is too old, in the engine's clock; None if it never is."""
        if not self.entries or self.limits.age_s is None:
            return None
        return self.entries[0].at_s + self.limits.age_s

    @property
    def dropped_to(self) -> int:
        """The offset up to which it has no entry any more; lower than the floor where that was raised above an older one."""
        return min(self.floor, self.entries[0].offset - 1) if self.entries else self.floor

    def next_offset(self, offset: int) -> int | None:
        """Return the offset of the first entry after `offset`; None if there is none."""
        entries = self.entries
        if not entries or entries[-1].offset <= offset:
            return None
        first = entries[0].offset
        return first if first > offset else entries[bisect_right(entries, offset, key=_offset)].offset

    def since(self, offset: int, now_s: float) -> Iterator[Entry]:
        """Expire entries that are too old, then return an iterator over those after `offset`.

        It is complete if `offset` is not below the floor. It is lazy, since a caller that reads many long logs takes
        a few entries of each at a time.
        """
        self.expire(now_s)
        if not self.entries or self.entries[-1].offset <= offset:
            return iter(())
        begin = bisect_right(self.entries, offset, key=_offset)
        rest = map(self.entries.__getitem__, range(begin + 1, len(self.entries)))
        return chain((self.entries[begin].after(offset),), rest)

    def knows(self, uuid: str) -> bool:
        """Return whether it has entries about this message, or has dropped them and not freed them yet."""
        return self._about is not None and uuid in self._about

    def about(self, uuid: str) -> tuple[Entry, ...]:
        """Return the entries of the message with this uuid and of its edits and deletions."""
        found = self._about.get(uuid, ()) if self._about else ()
        if not found or (self.entries and found[0].offset >= self.entries[0].offset):
            return found
        # Dropped ones stay in the index until they are freed.
        return found[bisect_left(found, self.entries[0].offset, key=_offset) :] if self.entries else ()

    def supersede(self, old: Entry, new: Entry | None) -> None:
        """Replace `old` by `new`, or remove it (None). The floor stays: a client above it misses nothing current."""
        entries = self.entries
        at = bisect_left(entries, old.offset, key=_offset)
        if at == len(entries) or entries[at] is not old:
            return  # The log has dropped it.
        if new is None:
            del entries[at]
            self._budget.dropped(self, self._unindex([old]))
            return
        # Not as if it were removed and appended: a private message that is edited for each user alone has very many logs.
        entries[at] = new
        about, uuid = self._about, old.event.uuid
        assert about is not None  # noqa: S101 - it has the old entry
        about[uuid] = tuple([new if each is old else each for each in about[uuid]])
        self._budget.changed(new.held() - old.freed())

    def limit(self, limits: LogLimits, now_s: float) -> None:
        """Change the limits, and drop what exceeds them."""
        self.limits = limits
        self.drop_oldest(len(self.entries) - limits.events)
        self.expire(now_s)
        self._budget.schedule_expiry(self)

    def restore(self, entries: list[Entry], floor: int) -> None:
        """Restore the entries that were dropped since the log had this floor; nothing may have been appended since.

        Args:
            entries: its entries at that time.
            floor: its floor then.
        """
        self._budget.finish(self)
        kept = self.entries
        dropped = entries[: bisect_left(entries, kept[0].offset, key=_offset)] if kept else entries
        self.floor = floor
        if not dropped:
            return
        self.entries = dropped + kept
        for entry in dropped:
            self._index(entry)
        self._budget.added(self, sum(entry.held() for entry in dropped))
        self._budget.schedule_expiry(self)

    def expire(self, now_s: float, most: int | None = None) -> None:
        """Drop the entries above the age limit, oldest first.

        Args:
            now_s: the engine's clock.
            most: entries dropped at most; None means all.
        """
        if not self.entries or self.limits.age_s is None:
            return
        oldest_s = now_s - self.limits.age_s
        if self.entries[0].at_s >= oldest_s:
            return  # At once: a client that resumes has this called for each of its channels.
        hi = len(self.entries) if most is None else min(most, len(self.entries))
        self.drop_oldest(bisect_left(self.entries, oldest_s, hi=hi, key=_at_s))

    def drop_oldest(self, count: int) -> None:
        """Drop the `count` oldest entries, and raise the floor to the last of them.

        Very many cost no more than few: they are freed later.
        """
        if count <= 0 or not self.entries:
            return
        if count == 1:
            self._drop_first()
            return
        dropped = self.entries[:count]
        del self.entries[:count]
        self.floor = max(self.floor, dropped[-1].offset)
        if len(dropped) > CUT:
            self._budget.cut(self, dropped)
        else:
            self.free(dropped)

    def free(self, dropped: Iterable[Entry]) -> None:
        """Free entries that were dropped: they no longer count."""
        self._budget.dropped(self, self._unindex(dropped))

    def _drop_first(self) -> None:
        """Drop the oldest entry: a full log does so at each append, and a private message has very many logs."""
        entries = self.entries
        entry = entries.pop(0)
        if entry.offset > self.floor:
            self.floor = entry.offset
        self._forget(entry)
        entry.logs -= 1  # As `freed`, without a call.
        size = HELD_BYTES if entry.logs else entry.size
        if entries:
            self._budget.used_bytes -= size  # As `dropped`, without a call.
        else:
            self._budget.dropped(self, size)

    def raise_floor(self, offset: int) -> None:
        """Count an event as lost. Older ones stay: a message that is repeated is known by them."""
        self.floor = max(self.floor, offset)

    def drop_through(self, offset: int) -> None:
        """Drop all entries up to an offset, and raise the floor to it, whether or not the log held that offset."""
        self.drop_oldest(bisect_right(self.entries, offset, key=_offset))
        self.raise_floor(offset)

    def clear(self) -> None:
        self.drop_oldest(len(self.entries))

    def _index(self, entry: Entry) -> None:
        self._index_as(_message_uuid(entry.event), entry)

    def _index_as(self, uuid: str | None, entry: Entry) -> None:
        if uuid is None:
            return
        about = self._about
        if about is None:
            about = self._about = {}
        indexed = about.get(uuid)
        about[uuid] = (entry,) if indexed is None else tuple(sorted((*indexed, entry), key=_offset))

    def _unindex(self, dropped: Iterable[Entry]) -> int:
        """Remove entries from the index; return the bytes that they no longer count for."""
        size = 0
        for entry in dropped:
            size += entry.freed()
            self._forget(entry)
        return size

    def _forget(self, entry: Entry) -> None:
        """Remove an entry from the index."""
        about, uuid = self._about, entry.event.uuid
        if not about or (indexed := about.get(uuid)) is None:
            return
        if indexed[0] is entry and len(indexed) == 1:
            del about[uuid]
        else:
            about[uuid] = tuple([other for other in indexed if other is not entry])


def append_to_all(logs: Iterable[Log], entry: Entry) -> None:
    """Append the newest event to each of several logs; what is the same for all of them is looked up once."""
    uuid = _message_uuid(entry.event)
    for log in logs:
        log.append_about(uuid, entry)


def _message_uuid(event: Event) -> str | None:
    """Return the uuid of the message that an event is or changes; None if it is about none."""
    return event.uuid if isinstance(event, Message) or event.supersedes is not None else None


@dataclass(frozen=True, slots=True)
class Replay:
    """A range of the log.

    Attributes:
        entries: in offset order within each shard, across channels.
        lost: the channels whose log no longer reaches back to the requested offset.
        read_to: `entries` is complete up to these offsets.
        head: the last offsets at the time of the read; equal to `read_to` when nothing is left to read.
    """

    entries: list[Entry]
    lost: frozenset[str]
    read_to: Offsets
    head: Offsets
