"""Entries that have an offset and are not committed yet. Events that are accepted next are compared with them already."""

from collections.abc import Iterable

from channelstream.core.entry import Entry
from channelstream.core.events import Event, Message

Key = tuple[str | None, str]
"""Where a message is: the name of the channel, None for all private ones, and the message's uuid."""


class Staged:
    """The staged messages, edits and deletions.

    Attributes:
        entries: by message, in offset order.
    """

    def __init__(self) -> None:
        self.entries: dict[Key, tuple[Entry, ...]] = {}

    def add(self, entry: Entry) -> None:
        """Keep an entry until it is committed."""
        event = entry.event
        if isinstance(event, Message) or event.supersedes is not None:
            key = _key(event)
            self.entries[key] = (*self.entries.get(key, ()), entry)

    def remove(self, entries: Iterable[Entry]) -> None:
        """Forget entries that are committed now, or never will be."""
        for entry in entries:
            key = _key(entry.event)
            left = tuple(other for other in self.entries.pop(key, ()) if other is not entry)
            if left:
                self.entries[key] = left

    def entries_about(self, event: Event) -> tuple[Entry, ...]:
        """Return the entries about the same message, of private ones for any users."""
        return self.entries.get(_key(event), ())

    def about(self, event: Event) -> list[Event]:
        """Return the events about the same message, in the same channel or for some of the same users."""
        staged = [entry.event for entry in self.entries_about(event)]
        if event.channel is not None:
            return staged
        names = event.only or frozenset()
        return [other for other in staged if other.only and not names.isdisjoint(other.only)]


def _key(event: Event) -> Key:
    return event.channel, event.uuid
