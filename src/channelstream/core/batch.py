"""Batches: what a connection is going to be sent at the end of the loop tick.

A batch is a node of a tree: "the events of my parent, then this one". Connections that got the same events in a
tick point at the same node, so its bytes are made once per format and the per-recipient work of a delivery is one
pointer. `IDLE` states of a connection are nodes as well, which keeps branches out of the delivery loop.
"""

from channelstream.core.changes import Changes, current_forms
from channelstream.core.codec import ENCLOSE, Framing, item
from channelstream.core.events import Dialect
from channelstream.core.log import Entry

FORMATS = len(Dialect) * len(Framing)
"""Number of formats: every dialect in every framing."""
UNCHANGED = Changes()


def format_of(dialect: Dialect, framing: Framing) -> int:
    """Return the number under which a batch keeps its bytes for this dialect and framing."""
    return dialect * len(Framing) + framing


class Batch:
    """Events to send together: those of `parent`, then `entry`.

    The root of a tree has neither: it stands for "nothing to send yet".

    Attributes:
        size: bytes its entries count for in the budget.
    """

    __slots__ = ("_bytes", "_encoded_after", "_next", "entry", "parent", "size")

    def __init__(self, parent: "Batch | None" = None, entry: Entry | None = None) -> None:
        self.parent = parent
        self.entry = entry
        self.size: int = 0 if parent is None or entry is None else parent.size + entry.size
        self._next: dict[Entry, Batch] | None = None
        self._bytes: list[bytes | None] | None = None
        self._encoded_after: Entry | None = None

    def append(self, entry: Entry) -> "Batch":
        """Return this batch followed by `entry`, the same object for everyone who asks."""
        following = self._next
        if following is None:
            following = self._next = {}
        batch = following.get(entry)
        if batch is None:
            batch = following[entry] = Batch(self, entry)
        return batch

    def detach_children(self) -> "Batch":
        """Give up what grew from this root and return a root that holds it."""
        taken = Batch()
        taken._next, self._next = self._next, None
        return taken

    def forget(self) -> None:
        """Let go of the batches that grew from this root, and they of theirs: their tick is over.

        Parent and child hold each other; untied they go at once, and need not wait for the garbage collector.
        """
        grown = [self]
        while grown:
            batch = grown.pop()
            if batch._next is not None:
                grown.extend(batch._next.values())
                batch._next = None

    def head(self, size: int) -> "Batch":
        """Return the longest part from the first entry on that is not larger, or the first entry alone."""
        batch = self
        while batch.size > size and batch.parent is not None and batch.parent.entry is not None:
            batch = batch.parent
        return batch

    def entries(self) -> list[Entry]:
        return self.entries_after(None)

    def entries_after(self, part: "Batch | None") -> list[Entry]:
        """Return the entries that follow a part of this batch that `head` has returned."""
        found = []
        batch: Batch | None = self
        while batch is not None and batch is not part and batch.entry is not None:
            found.append(batch.entry)
            batch = batch.parent
        found.reverse()
        return found

    def encoded(self, dialect: Dialect, framing: Framing, changes: Changes = UNCHANGED) -> bytes:
        """Return the bytes of the whole batch, made at the first call for a format; none where there is nothing to send.

        Args:
            changes: edits and deletions that were delivered since the batch began, to whomever; another last one than at
                the last call makes the bytes anew.
        """
        known = self._bytes
        if known is None or self._encoded_after is not changes.last:
            known = self._bytes = [None] * FORMATS
            self._encoded_after = changes.last
        number = format_of(dialect, framing)
        data = known[number]
        if data is None:
            entries = current_forms(self.entries(), changes)
            if not entries:
                return b""
            items = [item(entry, dialect) for entry in entries]
            data = known[number] = ENCLOSE[framing](items, entries[-1].position)
        return data


class DiscardBatch(Batch):
    """The batch of a connection that nothing is to be sent to: what comes is left to the log."""

    __slots__ = ()

    def append(self, entry: Entry) -> Batch:
        return self


class BufferBatch(Batch):
    """The batch of a connection that catches up: what comes meanwhile waits here.

    Attributes:
        held: entries in log order, at most `limit`.
        overflowed: more came than it may hold, so it holds nothing; the log has to be read once more.
    """

    __slots__ = ("buffered", "limit", "overflowed")

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.buffered: list[Entry] = []
        self.limit = limit
        self.overflowed = False

    @property
    def has_room(self) -> bool:
        """Whether it holds what comes next."""
        return not self.overflowed and len(self.buffered) < self.limit

    def append(self, entry: Entry) -> Batch:
        if self.has_room:
            self.buffered.append(entry)
        else:
            self.overflow()
        return self

    def overflow(self) -> None:
        """Hold nothing from now on: whoever waits for a slow client shall cost no memory."""
        self.overflowed = True
        self.buffered.clear()

    def reset(self) -> None:
        """Begin to hold anew, just before the log is read."""
        self.overflowed = False
        self.buffered.clear()


DISCARD = DiscardBatch()
