"""The edits and deletions that were delivered lately: whoever sends an entry later looks up here what it is by then.

What waits in a batch, is held for a client that catches up, or was read from the log and is written in pieces, was delivered
before. So it is sent in its present form only, as what is read from the log is (`core.compaction`).
"""

from collections import deque
from collections.abc import Callable, Sequence

from channelstream.core.compaction import covers, current, merged
from channelstream.core.events import Event
from channelstream.core.log import Entry

KEPT = 1000
KEPT_BYTES = 4 << 20
"""How many changes are remembered, and their bytes; whoever asks for older ones reads the log anew."""

_Subject = tuple[str | None, str]
"""The channel and the uuid of a message."""


class RecentChanges:
    """Changes in the order in which they were delivered.

    Attributes:
        number: how many there were so far.
    """

    def __init__(self) -> None:
        self.number = 0
        self._kept: deque[Entry] = deque()
        self._bytes = 0

    def note(self, entry: Entry, needed: int) -> None:
        """Remember a change.

        Args:
            needed: those after this number are kept whatever the bound: they wait to be sent with the next flush.
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
        """Return the changes after this number; None where they are not remembered any more."""
        missing = self.number - len(self._kept)
        if number < missing:
            return None
        return [] if number == self.number else list(self._kept)[number - missing :]


class Changes:
    """Changes by the message they are about: many entries are looked up in the same ones.

    Attributes:
        last: the newest one; None where there are none.
    """

    __slots__ = ("_by_subject", "last")

    def __init__(self, changes: Sequence[Entry] = ()) -> None:
        """Group changes, given in the order of their delivery."""
        self.last = changes[-1] if changes else None
        self._by_subject: dict[_Subject, list[Entry]] = {}
        for change in changes:
            self._by_subject.setdefault(_subject(change), []).append(change)

    def about(self, entry: Entry) -> Sequence[Entry]:
        return self._by_subject.get(_subject(entry), ())


def present_forms(entries: Sequence[Entry], changes: Changes) -> Sequence[Entry]:
    """Return what is sent of entries that all go to the same clients.

    Args:
        changes: those that were delivered since, those among the entries too, though perhaps not to these clients.
    """
    if changes.last is None:
        return entries
    # Those among the entries count once more: a change for some of these clients is newer than one for everybody before it.
    own = {entry.event for entry in entries if entry.event.supersedes is not None}
    return _after(compacted(entries), changes, lambda change, event: change in own or covers(change, event))


def forms_for(user: str, entries: Sequence[Entry], changes: Sequence[Entry]) -> Sequence[Entry]:
    """Return what one user is sent of entries, after changes that were delivered since they were read."""
    return _after(entries, Changes(changes), lambda change, _: change.only is None or user in change.only)


def compacted(entries: Sequence[Entry]) -> list[Entry]:
    """Return entries that all go to the same clients, of those that a later one supersedes only the present form."""
    found: dict[int, Entry] = {}
    places: dict[_Subject, list[int]] = {}
    for number, entry in enumerate(entries):
        kept = entry
        about = places.setdefault(_subject(entry), [])
        if entry.event.supersedes is not None:
            for place in about:
                old = found.pop(place)
                kept = _with(kept, merged(kept.event, old.event))
                if (new := _changed(old, entry)) is not None:
                    found[place] = new
            about[:] = [place for place in about if place in found]
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
