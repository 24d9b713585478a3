"""Batches: the events that a connection is sent with the next flush.

A batch is a node of a tree: the events of its parent, then one more. `append` returns the same child for the same
entry, so all connections that received the same events since the last flush point at the same node. Two things follow.
A delivery only changes one pointer for each recipient, and the bytes of a batch are made once per format for all
recipients. With a list for each connection, both would cost recipients x events.

Invariant: the entries of a batch never change; an event moves a connection to a child of its batch. So a batch may be
shared, and encoded at any moment. Only the form of its entries changes, by edits and deletions. `encoded` gets these
changes as an argument, and keeps its bytes only as long as the last change is the same.

A very large batch is written in parts: to encode it at once would block the loop, and more would arrive meanwhile.
`encoded` gives the first part (`head`), and the hub puts the `rest` into the next round.

A connection that must not be written to points at a batch as well: a `DiscardBatch` or a `BufferBatch`, whose `append`
returns the same batch. So the delivery loop needs no branch for such a connection.
"""

from channelstream.core.changes import Changes, current_forms
from channelstream.core.entry import Entry
from channelstream.core.format import Format, items_of
from channelstream.core.position import Offsets

UNCHANGED = Changes()
BATCH_SIZE = 1_048_576
"""Size of the entries (`Entry.size`) that are encoded and written together. To encode them takes 2 to 5 ms."""


class Batch:
    """Events to send together: those of `parent`, then `entry`.

    The root of a tree has neither parent nor entry: nothing waits.

    Attributes:
        size: sum of the `Entry.size` of its entries, in bytes.
        count: the number of its entries.
    """

    __slots__ = ("_bytes", "_encoded_after", "_next", "count", "entry", "parent", "size")

    def __init__(self, parent: "Batch | None" = None, entry: Entry | None = None) -> None:
        self.parent = parent
        self.entry = entry
        self.size = self.count = 0
        if parent is not None and entry is not None:
            self.size = parent.size + entry.size
            self.count = parent.count + 1
        self._next: dict[Entry, Batch] | None = None
        self._bytes: dict[int, bytes] | None = None
        self._encoded_after: Entry | None = None

    def append(self, entry: Entry) -> "Batch":
        """Return this batch followed by `entry`: the same object for every call with this entry."""
        following = self._next
        if following is None:
            following = self._next = {}
        batch = following.get(entry)
        if batch is None:
            batch = following[entry] = Batch(self, entry)
        return batch

    def detach_children(self) -> "Batch":
        """Move the children of this root to a new root, and return the new root."""
        taken = Batch()
        taken._next, self._next = self._next, None
        return taken

    def forget(self) -> None:
        """Drop all descendants of this root, after they have been written.

        Parents and children refer to each other: cutting the links frees them at once, without the garbage collector.
        """
        descendants = [self]
        while descendants:
            batch = descendants.pop()
            if batch._next is not None:
                descendants.extend(batch._next.values())
                batch._next = None

    @property
    def has_rest(self) -> bool:
        """Whether it is so large that it is written in parts."""
        return self.size > BATCH_SIZE and self.parent is not None and self.parent.entry is not None

    def head(self) -> "Batch":
        """Return the part that is written first: up to `BATCH_SIZE`, or only the first entry if that is larger."""
        batch: Batch = self
        while batch.has_rest:
            assert batch.parent is not None  # noqa: S101 - for the types
            batch = batch.parent
        return batch

    def entries(self) -> list[Entry]:
        return self._entries_after(None)

    def rest(self) -> list[Entry]:
        """Return the entries after the head."""
        return self._entries_after(self.head())

    def _entries_after(self, part: "Batch | None") -> list[Entry]:
        found = []
        batch: Batch | None = self
        while batch is not None and batch is not part and batch.entry is not None:
            found.append(batch.entry)
            batch = batch.parent
        found.reverse()
        return found

    def known_bytes(self, number: int, changes: Changes) -> bytes | None:
        """Return what `encoded` has returned for this format; None if it has to encode."""
        known = self._bytes
        return None if known is None or self._encoded_after is not changes.last else known.get(number)

    def encoded(self, format_: Format, changes: Changes = UNCHANGED) -> bytes:
        """Return the bytes of the head, made at the first call for a format; empty if nothing of it is sent.

        Args:
            format_: of the recipients.
            changes: edits and deletions since the batch began, for any users. If the last one is not that of the last
                call, the bytes are made again.
        """
        data = self.known_bytes(format_.number, changes)
        if data is None:
            if self._bytes is None or self._encoded_after is not changes.last:
                self._bytes = {}
                self._encoded_after = changes.last
            data = self._bytes[format_.number] = self._encode(format_, changes)
        return data

    def _encode(self, format_: Format, changes: Changes) -> bytes:
        entries = current_forms(self.head().entries(), changes, self.rest())
        items = items_of(format_, entries)
        return format_.enclose(items, entries[-1].position) if items else b""


class DiscardBatch(Batch):
    """The batch of a connection that is not written to: events are dropped, and stay in the log."""

    __slots__ = ()

    def append(self, entry: Entry) -> Batch:
        return self


class BufferBatch(Batch):
    """The batch of a connection that catches up: it buffers the events that arrive meanwhile.

    Attributes:
        buffered: entries in the order of their delivery, at most `limit`.
        overflowed: more than `limit` entries arrived, so it buffers nothing; the log has to be read once more.
        since: it has all that the connection receives after these offsets, unless it has overflowed; empty: not known.
        changes: the number of the last edit or deletion before it began (`RecentChanges`).
    """

    __slots__ = ("buffered", "changes", "limit", "overflowed", "since")

    def __init__(self, limit: int, since: Offsets = (), changes: int = 0) -> None:
        super().__init__()
        self.buffered: list[Entry] = []
        self.limit = limit
        self.overflowed = False
        self.since = since
        self.changes = changes

    @property
    def has_room(self) -> bool:
        """Whether it buffers the next entry."""
        return not self.overflowed and len(self.buffered) < self.limit

    def append(self, entry: Entry) -> Batch:
        if self.has_room:
            self.buffered.append(entry)
        else:
            self.overflow()
        return self

    def overflow(self) -> None:
        """Buffer nothing from now on: a connection that waits for a slow client must cost no memory."""
        self.overflowed = True
        self.buffered.clear()

    def reset(self, changes: int) -> None:
        """Buffer again from now on, just before the log is read.

        Args:
            changes: the number of the last edit or deletion.
        """
        self.overflowed = False
        self.buffered.clear()
        self.since, self.changes = (), changes


DISCARD = DiscardBatch()
