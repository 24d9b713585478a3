"""The flush: the connections that wait for it, and the rounds in which they are written to.

A flush encodes each distinct batch once per format, and calls `write` once for each connection that waits.

A flush of many connections is split into slices, with other work in between. `_begin` moves the waiting
connections to `slices`, and their batches from `root` to another root, `_sent`. Events keep arriving between the
slices. If a connection still waits, the event is added to its batch of this round. If the connection has been
written to already, the event begins a batch of the next round, at `root`. So no connection is sent an event
twice, and no event is skipped. A very large batch is written in parts, one part in each round.

These rules hold between two slices, and when a stream is lost:

- A connection may leave its slice while it waits: it is detached, or a stream of another transport is
  attached. So `_write_out` checks batch and format again just before it writes.
- Edits and deletions may arrive between the delivery of an entry and its flush. Each batch is encoded with
  all changes since its round began (`_sent_began`) applied, so that no outdated form of an entry is written
  (`core.changes`).
"""

from collections import deque
from collections.abc import Callable, Sequence

from channelstream.close_codes import CloseCode
from channelstream.core.batch import Batch
from channelstream.core.changes import Changes, RecentChanges, compacted, current_forms, forms_for
from channelstream.core.connection import Connection, ConnectionState
from channelstream.core.entry import Entry
from channelstream.core.format import Format, items_of

SLICE = 25
"""Connections written to in one call of `flush`: 0.1 ms of work, at 5 us for a write; 1 ms, if the kernel is slow."""
ENCODE_BYTES = 1024
"""Bytes whose encoding takes as long as one write."""
WRITE_BYTES = 16_384
"""A write counts once more for each full `WRITE_BYTES` of its data.

The kernel copies that many bytes in about the time that the rest of a write takes.
"""
MANY_EVENTS = 24
"""Events with which the flush need not wait for more, and publishers wait for the flush.

A write takes 7 us, and 0.2 us more for each of its events, so that with 24 of them a delivery takes 0.5 us. More of them
would mostly wait for each other (docs/performance.md).
"""


class Written:
    """What was written to streams.

    Attributes:
        events: one for each event and recipient, also where a later event of the same write supersedes it.
        size: the bytes, without those of TLS and of heartbeats.
    """

    __slots__ = ("events", "size")

    def __init__(self) -> None:
        self.events = self.size = 0

    def add(self, events: int, size: int) -> None:
        """Count a write."""
        self.events += events
        self.size += size

    def add_same(self, writes: int, events: int, size: int) -> None:
        """Count writes that are the same."""
        self.events += writes * events
        self.size += writes * size


class Rounds:
    """The waiting connections of a hub, and their rounds.

    Attributes:
        root: the batch of a live connection for which nothing waits; the same object for ever.
        waiting: the connections whose batch has grown from `root`, at the number of their format; they are written
            to in the next round.
        slices: those that the round in progress has not written to yet, with the number of their format.
        changes: recent edits and deletions.
        waiting_events: events delivered since the last round began.
        when_begun: called when the next round begins, or before (`call_waiting`), once each.
        writes: writes to streams in rounds since the start.
        written: what was written to streams since the start, in rounds and beside them.
        is_due: a flush has been asked for, and has not ended.
    """

    def __init__(
        self, formats: Sequence[Format], schedule_flush: Callable[[], None], end_pause: Callable[[], None]
    ) -> None:
        """Create the rounds of a hub without connections; the arguments are those of `Hub`."""
        self.root = Batch()
        self.waiting: list[list[Connection]] = [[] for _ in formats]
        self.slices: deque[tuple[int, list[Connection]]] = deque()
        self.changes = RecentChanges()
        self.waiting_events = 0
        self.when_begun: list[Callable[[], None]] = []
        self.writes = 0
        self.written = Written()
        self.is_due = False
        # Changes (edits and deletions) are numbered. `_began` is the number of the last change before the
        # round that is being collected. `_sent_began` is the same for the round that is being written.
        self._began = self._sent_began = 0
        # What `_waiting_changes` has returned, for the next slice: the changes after the first number, up to the second one.
        self._indexed = Changes()
        self._indexed_numbers = (0, 0)
        self._sent = Batch()
        # The rest of each very large batch of the round that is being written.
        self._rests: dict[Batch, Batch] = {}
        self._formats = formats
        self._schedule_flush = schedule_flush
        self.end_pause = end_pause

    @property
    def is_behind(self) -> bool:
        """Whether `MANY_EVENTS` wait already for the round after the one that is being written."""
        return self.waiting_events >= MANY_EVENTS and bool(self.slices)

    def ask(self) -> None:
        """Ask for a flush."""
        self.is_due = True
        self._schedule_flush()

    def flush(self) -> bool:
        """Write the waiting batches: one write per connection.

        Connections that wait for the same events are sent the same bytes. One call does about 0.1 ms of work:
        `SLICE` writes, or fewer if the batches are large. If more is left, `flush` returns True, and the
        caller calls it again soon.
        """
        if not self.slices:
            self._begin()
        left = SLICE
        while self.slices and left > 0:
            number, waiting = self.slices.popleft()
            left = self._write_out(number, waiting, left)
        if self.slices:
            return True
        self._sent.forget()
        self._rests.clear()
        self._sent_began = self._began
        self.is_due = False
        # What came meanwhile may all be for connections that are not written to: then nothing waits but calls.
        if any(self.waiting) or self.when_begun:
            self.ask()
        return False

    def _begin(self) -> None:
        """Begin a round with the connections that wait now. Later events wait for the next round."""
        for number, waiting in enumerate(self.waiting):
            if waiting:
                self.waiting[number] = []
                self.slices.extend((number, waiting[at : at + SLICE]) for at in range(0, len(waiting), SLICE))
        self.waiting_events = 0
        self._sent = self.root.detach_children()
        self._sent_began, self._began = self._began, self.changes.number
        self.call_waiting()

    def call_waiting(self) -> None:
        """Call what waits for the beginning of the next round: it begins, or is not waited for any longer."""
        begun, self.when_begun = self.when_begun, []
        for call in begun:
            call()

    def _write_out(self, number: int, waiting: list[Connection], left: int) -> int:
        """Write to each of the connections, and return how many writes of `left` remain.

        Connections for which no write remains wait for the next call of `flush`. If a write fails, the stream
        of that connection is closed, and the connections after it wait for the next call.
        """
        root = self.root
        written = self.written
        changes = self._waiting_changes()
        last: Batch | None = None
        following = root
        data, size, events = b"", 0, 0
        batch = root
        cost = 1
        # The writes of a batch are counted after its last one, by `left`: so no write costs more.
        before = left
        rest = iter(waiting)
        try:
            for connection in rest:
                batch = connection.batch
                if batch is not last:
                    written.add_same((before - left) // cost, events, size)
                    before = left
                    last = batch
                    following, data, events, encoding = self._prepare(batch, number, changes)
                    before = left = left - encoding
                    size = len(data)
                    cost = 1 + size // WRITE_BYTES
                if batch.entry is None or connection.format_number != number:
                    continue  # It was detached while it waited, or its stream has another format now.
                connection.batch = following
                if following is not root:
                    self.waiting[number].append(connection)
                if data:
                    write = connection.write
                    try:
                        taken = write(data)
                    except OSError:
                        taken = 0
                    if taken != size and taken is not None:
                        connection.write_all(data[taken:])
                left -= cost
                if left <= 0:
                    break
        except Exception:
            _close_failed(connection, batch)
            raise
        finally:
            written.add_same((before - left) // cost, events, size)
            remaining = list(rest)
            self.writes += len(waiting) - len(remaining)
            if remaining:
                self.slices.appendleft((number, remaining))
        return left

    def _prepare(self, batch: Batch, number: int, changes: Changes) -> tuple[Batch, bytes, int, int]:
        """Prepare to write a batch.

        Returns:
            the batch that waits afterwards, the bytes to write, how many events they are about (0 if there are no bytes),
            and how many writes the encoding has taken the time of.
        """
        following, events = self.root, batch.count
        if batch.has_rest:
            following, events = self._rest(batch, changes), batch.head().count
        encoding = 0
        data = batch.known_bytes(number, changes)
        if data is None:
            data = batch.encoded(self._formats[number], changes)
            encoding = len(data) // ENCODE_BYTES
        return following, data, events if data else 0, encoding

    def _rest(self, batch: Batch, changes: Changes) -> Batch:
        """Return the rest of a very large batch, for the next round."""
        rest = self._rests.get(batch)
        if rest is None:
            rest = self.root
            # Apply all changes now: the next round no longer knows those from before `_begin`.
            for entry in current_forms(batch.rest(), changes):
                rest = rest.append(entry)
            self._rests[batch] = rest
        return rest

    # -- edits and deletions

    def add_change(self, entry: Entry) -> None:
        """Note an edit or a deletion, which applies to all batches that wait."""
        if not self.is_due:  # Nothing waits, so no entry needs the older changes.
            self._sent_began = self._began = self.changes.number
        self.changes.add(entry, needed=self._sent_began)

    def _waiting_changes(self) -> Changes:
        """Return the changes that were delivered since the first entry of the round that is being written."""
        numbers = self._sent_began, self.changes.number
        if numbers != self._indexed_numbers:
            changes = self.changes.after(self._sent_began)
            assert changes is not None  # noqa: S101 - `RecentChanges.add` keeps them
            self._indexed, self._indexed_numbers = Changes(changes), numbers
        return self._indexed

    # -- a single connection

    def encoded(self, batch: Batch, number: int) -> bytes:
        """Return the bytes of a waiting batch in the format of this number, for one connection out of its turn."""
        return batch.encoded(self._formats[number], self._waiting_changes())

    def write_alone(self, connection: Connection) -> None:
        """Write the batch of a connection at once, because of a change that is not sent to this connection.

        The change lists the connection's user in `only`, so this user must no longer be sent the older form
        of the changed entry. The change itself is not sent either: the user is also in `exclude`, or the
        connection is not in the channel. Other connections that share the batch may still need the older
        form. If the batch waited for the next flush, this connection would be sent the older form with them.
        """
        batch = connection.batch
        if connection.state is not ConnectionState.LIVE or batch.entry is None:
            return
        format_ = self._formats[connection.format_number]
        changes = self.changes.after(self._sent_began) or ()
        forms = forms_for(connection.user, compacted(batch.entries()), changes)
        connection.batch = self.root
        try:
            if items := items_of(format_, forms):
                data = format_.enclose(items, forms[-1].position)
                connection.write_all(data)
                self.written.add(len(items), len(data))
        except Exception:
            _close_failed(connection, batch)


def _close_failed(connection: Connection, batch: Batch) -> None:
    """Close a stream on which a write has failed.

    The batch is put back first, so that `delivered` becomes the position before that batch.
    """
    if connection.stream is not None and connection.state is ConnectionState.LIVE:
        connection.batch = batch
        connection.stream.close(CloseCode.OVERLOADED, "a write has failed")
