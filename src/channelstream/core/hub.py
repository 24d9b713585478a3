"""This process's connections and who of them hears what. `deliver` and `flush` are the hot path.

`deliver` only moves one pointer per recipient (see `core.batch`); `flush`, once per loop tick, makes the bytes of each
distinct batch once and writes them. No await, no logging, no encoding and no copying per recipient in either.
"""

from collections import deque
from collections.abc import Callable, Iterable

from channelstream.core.batch import DISCARD, FORMATS, Batch, format_of
from channelstream.core.changes import Changes, RecentChanges, compacted, forms_for
from channelstream.core.codec import ENCLOSE, Framing, item
from channelstream.core.connection import Connection, ConnectionState, Step, Stream
from channelstream.core.events import Dialect, Event
from channelstream.core.log import Entry
from channelstream.core.position import Offsets, ReadRange
from channelstream.errors import CloseCode

BATCH_SIZE = 262_144
"""Size of the entries, as the budget counts them, that are encoded and written together: 2 to 5 ms to encode."""
SLICE = 1_000
"""Connections written to in one call of `flush`: about 5 ms, a write being 5 us (measured, docs/performance.md)."""
WRITE_BYTES = 16_384
"""Bytes that count as one more write: the kernel copies that many in the time one write takes besides."""


class Hub:
    """Registry of local connections, their channels and users.

    Attributes:
        seqs: up to where each shard of the log was delivered here.
        deliveries: events handed to connections since the start.
        changes: the edits and deletions among what was delivered lately.
    """

    def __init__(self, schedule_flush: Callable[[], None]) -> None:
        """Create an empty hub.

        Args:
            schedule_flush: called once when something waits to be written; it must see to it that `flush` is called
                soon, after the work at hand.
        """
        self.connections: dict[str, Connection] = {}
        self.channels: dict[str, dict[Connection, None]] = {}
        self.users: dict[str, dict[Connection, None]] = {}
        self.offsets: Offsets = (0,)
        self.deliveries = 0
        self.changes = RecentChanges()
        self._root = Batch()
        self._began = self._sent_began = (
            0  # How many changes there were when this round and the one being written began.
        )
        self._waiting_by_format: list[list[Connection]] = [[] for _ in range(FORMATS)]
        self._slices: deque[tuple[int, list[Connection]]] = deque()
        self._sent = Batch()
        self._flush_is_due = False
        self._schedule_flush = schedule_flush

    # -- who is here

    def add(self, connection: Connection) -> None:
        self.connections[connection.id] = connection
        self.users.setdefault(connection.user, {})[connection] = None

    def remove(self, connection: Connection) -> None:
        """Forget a connection; its channels must have been left."""
        del self.connections[connection.id]
        _discard(self.users, connection.user, connection)

    def subscribe(self, connection: Connection, channel: str, read_range: ReadRange) -> None:
        connection.channels[channel] = read_range
        self.channels.setdefault(channel, {})[connection] = None

    def unsubscribe(self, connection: Connection, channel: str) -> None:
        del connection.channels[channel]
        _discard(self.channels, channel, connection)

    # -- the hot path

    def deliver(self, entry: Entry) -> None:
        """Hand one accepted event to everyone here who hears it; entries come in the order of each shard."""
        self.offsets = entry.offsets
        event = entry.event
        if event.supersedes is not None:
            self._record_change(entry)
        if event.channel is None or event.only is not None:
            self._enqueue(self._addressees(entry), entry)
            return
        members = self.channels.get(event.channel)
        if members is None:
            return
        if event.is_public:
            self._enqueue(members, entry)
        elif event.about:
            self._enqueue_about(members, entry)
        else:
            self._enqueue([member for member in members if member.receives(event)], entry)

    def _enqueue_about(self, members: dict[Connection, None], entry: Entry) -> None:
        """Hand an event that is about some users to who hears it; their own connections hear what is about the others."""
        event, name = entry.event, entry.event.channel
        own = {
            connection: None
            for user in event.about
            for connection in self.users.get(user, ())
            if name in connection.channels
        }
        if not event.is_for("", Dialect.V07):  # Not announced: only connections of the seed hear it.
            self._enqueue([each for each in members if each.receives(event) and each not in own], entry)
        else:
            self._enqueue([each for each in members if each not in own] if own else members, entry)
        for connection in own:
            if connection.receives(event):
                self._enqueue([connection], entry.for_user(connection.user))

    def _enqueue(self, recipients: dict[Connection, None] | list[Connection], entry: Entry) -> None:
        self.deliveries += len(recipients)
        root = self._root
        waiting = self._waiting_by_format
        # Neighbours mostly hold the same batch, so the last answer of `append` is kept at hand: it saves a call for each.
        last: Batch | None = None
        following: Batch = root
        for connection in recipients:
            batch = connection.batch
            if batch is last:
                connection.batch = following
            else:
                last = batch
                following = connection.batch = batch.append(entry)
            if batch is root:
                waiting[connection.format].append(connection)
        if not self._flush_is_due:
            self._ask_for_flush()

    def _ask_for_flush(self) -> None:
        self._flush_is_due = True
        self._schedule_flush()

    def flush(self) -> bool:
        """Write what waits: one write per connection, the same bytes for all that got the same events.

        One call does about 5 ms of work, so that other work gets its turn: `SLICE` writes, or fewer of large batches. If
        more is left it returns True, and the caller calls again soon. Events that are delivered meanwhile to connections
        that still wait join their batches.
        """
        if not self._slices:
            self._begin_round()
        left = SLICE
        while self._slices and left > 0:
            number, waiting = self._slices.popleft()
            left = self._write_out(number, waiting, left)
        if self._slices:
            return True
        self._sent.forget()
        self._sent_began = self._began
        self._flush_is_due = False
        if any(self._waiting_by_format):
            self._ask_for_flush()
        return False

    def _begin_round(self) -> None:
        """Take over who waits now; whoever is delivered to from here on, and has been written to, is in the next round."""
        for number, waiting in enumerate(self._waiting_by_format):
            if waiting:
                self._waiting_by_format[number] = []
                self._slices.extend(
                    (number, waiting[at : at + SLICE]) for at in range(0, len(waiting), SLICE)
                )
        self._sent = self._root.detach_children()
        self._sent_began, self._began = self._began, self.changes.number

    def _record_change(self, entry: Entry) -> None:
        if not self._flush_is_due:  # Nothing waits that an older change could be about.
            self._sent_began = self._began = self.changes.number
        self.changes.add(entry, needed=self._sent_began)
        for name in sorted(entry.event.only or ()):
            for connection in list(self.users.get(name, ())):
                if not _is_in_audience(connection, entry.event):
                    self._flush_alone(connection)

    def _flush_alone(self, connection: Connection) -> None:
        """Write what waits for a connection that a change is about and is not sent to: excluded, or not in the channel.

        Only this user must not be sent the older form, and others may share the batch.
        """
        batch = connection.batch
        if connection.state is not ConnectionState.LIVE or batch.entry is None:
            return
        framing = Framing(connection.format % len(Framing))
        changes = self.changes.after(self._sent_began) or ()
        forms = forms_for(connection.user, compacted(batch.entries()), changes)
        connection.batch = self._root
        try:
            if forms:
                items = [item(each, connection.dialect) for each in forms]
                connection.write(ENCLOSE[framing](items, forms[-1].position))
        except Exception:
            self._close_failed(connection, batch)

    def _waiting_changes(self) -> Changes:
        """Return the changes that were delivered since anything that waits to be written was."""
        changes = self.changes.after(self._sent_began)
        assert changes is not None  # noqa: S101 - those were kept
        return Changes(changes)

    def _write_out(self, number: int, waiting: list[Connection], left: int) -> int:
        """Write to each of the connections, and return how many writes of `left` remain.

        Connections that are not reached wait for the next call of `flush`. If a write fails, that stream ends, and the
        connections after it wait for the next call, too.
        """
        dialect, framing = Dialect(number // len(Framing)), Framing(number % len(Framing))
        root = self._root
        changes = self._waiting_changes()
        last: Batch | None = None
        following = root
        data = b""
        batch = root
        cost = 1
        rest = iter(waiting)
        try:
            for connection in rest:
                batch = connection.batch
                if batch is not last:
                    last = batch
                    first, following = self._split(batch)
                    data = first.encoded(dialect, framing, changes)
                    cost = 1 + len(data) // WRITE_BYTES
                # Not so for one that was detached after it had begun to wait, or came back by another transport.
                if batch.entry is not None and connection.format == number:
                    connection.batch = following
                    if following is not root:
                        self._waiting_by_format[number].append(connection)
                    if data:
                        connection.write(data)
                        left -= cost
                        if left <= 0:
                            break
        except Exception:
            self._close_failed(connection, batch)
            raise
        finally:
            if remaining := list(rest):
                self._slices.appendleft((number, remaining))
        return left

    def _split(self, batch: Batch) -> tuple[Batch, Batch]:
        """Return what is written of a batch now, and what is written in the next round: nothing unless it is very large.

        Encoding a very large batch at once would hold up the loop, and during that time it would only grow.
        """
        first, following = batch.head(BATCH_SIZE), self._root
        if first is not batch:
            for entry in batch.entries_after(first):
                following = following.append(entry)
            self._began = min(self._began, self._sent_began)
        return first, following

    def _close_failed(self, connection: Connection, batch: Batch) -> None:
        """End a stream on which a write has failed: its client comes back for this batch."""
        if connection.stream is not None and connection.state is ConnectionState.LIVE:
            connection.batch = batch
            connection.stream.close(CloseCode.OVERLOADED, "a write has failed")

    def _addressees(self, entry: Entry) -> list[Connection]:
        """Return who hears an event meant for certain users, by way of the users and not of the channel."""
        event = entry.event
        return [
            connection
            for name in event.only or ()
            for connection in self.users.get(name, ())
            if _is_in_audience(connection, event)
        ]

    # -- a connection's stream

    def attach(self, connection: Connection, stream: Stream, batch: Batch) -> None:
        """Give a connection a stream; until `go_live` what it is to hear gathers in `batch`."""
        self.stop_writing(connection)
        connection.move(Step.ATTACH)
        connection.stream = stream
        connection.write = stream.write
        connection.format = format_of(connection.dialect, stream.framing)
        connection.batch = batch
        connection.deadline_s = None

    def go_live(self, connection: Connection, buffered: Iterable[Entry]) -> None:
        """From now on write events as they come, after those `buffered` while it caught up."""
        connection.move(Step.CAUGHT_UP)
        connection.batch = self._root
        for entry in buffered:
            self._enqueue([connection], entry)

    def stall(self, connection: Connection, batch: Batch) -> None:
        """Write no more to a live connection; what it is to hear gathers in `batch`."""
        connection.move(Step.STALL)
        self._flush_pending(connection)
        if connection.state is ConnectionState.CATCHING_UP:
            connection.batch = batch

    def detach(self, connection: Connection, deadline_s: float) -> None:
        """Take the stream away; the connection stays a member until its deadline.

        What waits to be written is not: the stream is gone, and the log keeps it for the next one.
        """
        self.discard_pending(connection)
        connection.move(Step.DETACH)
        connection.stream = None
        connection.deadline_s = deadline_s
        connection.batch = DISCARD

    def discard_pending(self, connection: Connection) -> None:
        """Write nothing more to a live connection whose client reads no more, until another stream is attached.

        What waits to be written stays in the log. A connection that is not live is left as it is.
        """
        waiting = connection.batch.entries()
        if waiting:
            connection.delivered = waiting[0].offsets_before
        elif connection.batch is self._root:
            connection.delivered = self.offsets
        else:
            return
        connection.batch = DISCARD

    def stop_writing(self, connection: Connection) -> None:
        """Stop writing to a connection and settle what it has heard."""
        if connection.state is ConnectionState.LIVE and connection.batch is not DISCARD:
            self._flush_pending(connection)
        connection.batch = DISCARD

    def _flush_pending(self, connection: Connection) -> None:
        """Write the pending events of a connection that was live until now, so that it has been sent everything up to here.

        If the write fails, or if the batch is a very large one, its client gets those events from the log. So a transport
        that is full takes no more than `BATCH_SIZE` beyond its bound.
        """
        if connection.batch.size > BATCH_SIZE:
            self.discard_pending(connection)
            return
        batch, connection.batch = connection.batch, self._root
        delivered = None
        try:
            framing = Framing(connection.format % len(Framing))
            data = batch.encoded(connection.dialect, framing, self._waiting_changes())
            if data:
                connection.write(data)
        except Exception:
            delivered = batch.entries()[0].offsets_before
        if connection.batch is self._root:  # Unless that write has ended the stream.
            connection.delivered = self.offsets if delivered is None else delivered


def _is_in_audience(connection: Connection, event: Event) -> bool:
    """Whether a connection of a user whom an event is for is sent it."""
    return (event.channel is None or event.channel in connection.channels) and connection.receives(event)


def _discard(index: dict[str, dict[Connection, None]], key: str, connection: Connection) -> None:
    """Take a connection out of an index and leave no empty entry behind."""
    entries = index[key]
    del entries[connection]
    if not entries:
        del index[key]
