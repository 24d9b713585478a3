"""The edits of a message that logs still have, and those of which an edit without a text leaves some users none."""

from collections.abc import Iterator
from dataclasses import dataclass

from channelstream.core.entry import Entry
from channelstream.core.events import MessageDeleted, MessageEdited, Names


@dataclass
class Kept:
    """An edit as a log has it.

    Attributes:
        names: for whom it still is, also those whom it excludes; None for all of the channel but `excluded`.
        has_text: or a text that it has taken over.
    """

    offset: int
    names: Names | None
    excluded: Names
    has_text: bool

    def is_for_some_of(self, names: Names | None) -> bool:
        if self.names is None:
            return names is None or not names <= self.excluded
        return names is None or not names.isdisjoint(self.names)

    def is_for_all_of(self, newer: "Kept") -> bool:
        """Whether none of them but those whom both exclude has been left out."""
        left_out = self.excluded - newer.excluded
        if newer.names is None:
            return self.names is None and not left_out
        return (self.names is None or newer.names <= self.names) and newer.names.isdisjoint(left_out)

    def without(self, names: Names | None) -> "Kept | None":
        """Return what a change for these users leaves of it."""
        if names is None:
            return None
        if self.names is None:
            return Kept(self.offset, None, self.excluded | names, self.has_text)
        left = self.names - names
        return Kept(self.offset, left, self.excluded, self.has_text) if left else None


class KeptEdits:
    """Those of each message, by its channel and uuid."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str | None, str], list[Kept]] = {}

    def lost(self, entry: Entry) -> Iterator[tuple[int, Names]]:
        """Take the next entry of the log; yield the offset of each edit of which users have lost the text, and these."""
        event = entry.event
        if not isinstance(event, MessageEdited | MessageDeleted):
            return
        is_edit, place = isinstance(event, MessageEdited), (event.channel, event.uuid)
        has_text = getattr(event, "payload", None) is not None
        newer = Kept(entry.offset, event.only, event.exclude or frozenset(), has_text)
        left = list[Kept]()
        for older in self._kept.get(place, ()):
            if is_edit and older.has_text and not has_text and older.is_for_some_of(event.only):
                if older.is_for_all_of(newer):
                    newer.has_text = True
                else:
                    yield older.offset, (older.names or frozenset()) & (event.only or frozenset())
            rest = older.without(event.only)
            left += [rest] if rest is not None else []
        self._kept[place] = [*left, newer] if is_edit else left
