"""Recent edits and deletions, and the current form of entries that still wait to be sent.

Invariant: once an edit or a deletion of an entry has been accepted, the entry is never sent in its older form. The log
itself ensures this for entries that are read from it (`core.compaction`). But entries also wait outside the log: in a
batch until the next flush, in the buffer of a client that catches up, and in a chunk that was read from the log and is
written piece by piece to a slow client. A change that arrives in the meantime cannot find them, since batches are
shared and no index leads from a message to them.

So the change is kept here instead, and every writer asks for the changes since its entries were collected
(`RecentChanges.after`) just before it writes. The cost is one lookup for each distinct batch, and none while there are
no changes. The alternative is to search and rewrite the waiting batches for each edit, at the cost of a step for each
connection. The list of changes is bounded. If a writer is further behind, it gets None, and reads the log again.
Changes that a flush still needs are kept beyond the bound (`needed`), since the entries of a batch are not read from
the log again.
"""

from collections import deque
from collections.abc import Callable, Sequence
from itertools import chain

from channelstream.core.compaction import covers, current, overlaid
from channelstream.core.entry import Entry
from channelstream.core.events import Event, MessageEdited

KEPT = 1000
KEPT_BYTES = 4 << 20
"""Changes kept, and their bytes; a caller that needs older ones reads the log again."""

_Subject = tuple[str | None, str]
"""The channel and the uuid of a message."""


class RecentChanges:
    """Changes in the order in which they were delivered.

    Attributes:
        number: the number of the last change, counted from 1; 0 if there was none.
    """

    def __init__(self) -> None:
        self.number = 0
        self._kept: deque[Entry] = deque()
        self._bytes = 0

    def add(self, entry: Entry, needed: int) -> None:
        """Add a change.

        Args:
            entry: the edit or deletion.
            needed: changes after this number are kept even beyond the bound, since entries that wait for the next flush
                need them.
        """
        self.number += 1
        self._kept.append(entry)
        self._bytes += entry.size
        while self._is_full and self.number - len(self._kept) < needed:
            self._bytes -= self._kept.popleft().size

    @property
    def _is_full(self) -> bool:
        return len(self._kept) > KEPT or self._bytes > KEPT_BYTES

    def after(self, number: int) -> list[Entry] | None:
        """Return the changes after this number; None if some of them were dropped."""
        missing = self.number - len(self._kept)
        if number < missing:
            return None
        return [] if number == self.number else list(self._kept)[number - missing :]


class Changes:
    """Changes by their message, for many lookups.

    Attributes:
        last: the newest change; None if there is none.
    """

    __slots__ = ("_by_subject", "last")

    def __init__(self, changes: Sequence[Entry] = ()) -> None:
        """Index changes, given in the order of their delivery."""
        self.last = changes[-1] if changes else None
        self._by_subject: dict[_Subject, list[Entry]] = {}
        for change in changes:
            self._by_subject.setdefault(_subject(change), []).append(change)

    def about(self, entry: Entry) -> Sequence[Entry]:
        return self._by_subject.get(_subject(entry), ())


def current_forms(
    entries: Sequence[Entry], changes: Changes, following: Sequence[Entry] = ()
) -> Sequence[Entry]:
    """Return the current form of entries that all go to the same clients.

    Args:
        entries: in the order of their delivery; changes may be among them.
        changes: all changes that were delivered since the first entry, including those for other clients only.
        following: the entries after these, which go to the same clients later.
    """
    if changes.last is None:
        return entries
    # Changes among the entries are applied again, in order: else an older one for everyone could undo a newer one.
    own = {entry.event for entry in chain(entries, following) if entry.event.supersedes is not None}
    # First what is not among the entries: an edit takes over what an older one has changed, and not what is outdated.
    return compacted(_after(entries, changes, lambda change, event: change in own or covers(change, event)))


def forms_for(user: str, entries: Sequence[Entry], changes: Sequence[Entry]) -> Sequence[Entry]:
    """Return the current form of entries for one user, after changes that were delivered since the entries were read."""
    return _after(entries, Changes(changes), lambda change, _: change.only is None or user in change.only)


def compacted(entries: Sequence[Entry]) -> list[Entry]:
    """Return the current form of entries that all go to the same clients, with the changes among them applied."""
    found: dict[int, Entry] = {}
    indexes: dict[_Subject, list[int]] = {}
    for number, entry in enumerate(entries):
        kept = entry
        about = indexes.setdefault(_subject(entry), [])
        if entry.event.supersedes is not None:
            for index in about:
                old = found.pop(index)
                # These clients get both edits, so the newer one may say all that the older one has changed.
                kept = _with(kept, overlaid(kept.event, old.event))
                is_edit = isinstance(old.event, MessageEdited)
                if not is_edit and (new := _changed(old, entry)) is not None:
                    found[index] = new
            about[:] = [index for index in about if index in found]
        about.append(number)
        found[number] = kept
    return [found[number] for number in sorted(found)]


def _after(
    entries: Sequence[Entry], changes: Changes, is_for: Callable[[Event, Event], bool]
) -> Sequence[Entry]:
    found: list[Entry] = []
    for entry in entries:
        form: Entry | None = entry
        for change in changes.about(entry):
            if form is not None and change.offset > form.offset and is_for(change.event, form.event):
                form = _changed(form, change)
        if form is not None:
            found.append(form)
    return found


def _subject(entry: Entry) -> _Subject:
    return entry.event.channel, entry.event.uuid


def _changed(old: Entry, change: Entry) -> Entry | None:
    form = current(old.event, change.event)
    return None if form is None else _with(old, form)


def _with(entry: Entry, event: Event) -> Entry:
    return entry if event is entry.event else entry.with_event(event)
