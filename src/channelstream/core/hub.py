"""The connections of this process, and the delivery of events to them.

`deliver` and `flush` are the hot path.

A batch is a list of log entries that wait to be written. Each batch is its parent batch plus one entry, and
all batches begin at an empty root. So connections that wait for the same entries share one batch
(`core.batch`). For each recipient `deliver` only changes one reference, `connection.batch`: it then refers to
the former batch with the new entry appended. `flush` encodes each distinct batch once per format, and calls
`write` once for each connection. Neither method awaits or logs, and neither encodes or copies anything per
recipient. With a queue for each connection, every event would cost an append per recipient, and every flush
an encoding per connection.

Rounds: a flush of many connections is split into slices, with other work in between. `_begin_round` moves the
waiting connections to `_slices`, and their batches from `_root` to another root, `_sent`. Events keep
arriving between the slices. If a connection still waits, the event is added to its batch of this round. If
the connection has been written to already, the event begins a batch of the next round, at `_root`. So no
connection is sent an event twice, and no event is skipped. A very large batch is written in parts, one part
in each round.

These rules hold between two slices, and when a stream is lost:

- `connection.batch` has one of four values. `append` works for each of them, so `deliver` needs no branch for
  a connection that is not written to:
  - `_root`: the connection is live, and nothing waits.
  - A batch that grew from `_root` or `_sent`: the connection is live, and entries wait.
  - A `BufferBatch`: the connection is catching up.
  - `DISCARD`: nothing is written any more. Either the connection is detached, or its client has closed the
    stream, which ends in a later loop turn.
- A connection may leave its slice while it waits: it is detached, or a stream of another transport is
  attached. So `_write_out` checks batch and format again just before it writes.
- `connection.delivered`, the position up to which the client was sent everything, is not updated while a
  connection is live. That would cost an assignment per recipient. It is set when the hub stops writing live
  events to the connection. Its value is the position before the first unwritten entry, or `Hub.offsets` if
  every entry was written.
- Edits and deletions may arrive between the delivery of an entry and its flush. Each batch is encoded with
  all changes since its round began (`_sent_began`) applied, so that no outdated form of an entry is written
  (`core.changes`).
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence

from channelstream.core.batch import DISCARD, Batch
from channelstream.core.changes import Changes, RecentChanges, compacted, current_forms, forms_for
from channelstream.core.client_protocol import PresenceAudience
from channelstream.core.connection import Connection, ConnectionState, Step, Stream
from channelstream.core.connections_of import Connections, with_connection, without_connection
from channelstream.core.entry import Entry
from channelstream.core.events import Event
from channelstream.core.format import Format, items_of
from channelstream.core.position import Offsets, ReadRange
from channelstream.errors import CloseCode

SLICE = 1_000
"""Connections written to in one call of `flush`: 5 ms of work, at 5 us for a write (docs/performance.md)."""
ENCODE_BYTES = 1024
"""Bytes whose encoding takes as long as one write."""
WRITE_BYTES = 16_384
"""A write counts once more for each full `WRITE_BYTES` of its data.

The kernel copies that many bytes in about the time that the rest of a write takes.
"""


class Hub:
    """Registry of local connections, their channels and users.

    Attributes:
        offsets: the position up to which this node has received the log, one offset for each shard.
        deliveries: deliveries to connections since the start, one for each event and recipient.
        writes: writes to streams in flushes since the start.
        waiting_events: events delivered since the last round of the flush began.
        changes: recent edits and deletions.
    """

    def __init__(self, formats: Sequence[Format], schedule_flush: Callable[[], None]) -> None:
        """Create an empty hub.

        Args:
            formats: all formats of streams, each at its number.
            schedule_flush: called when the first connection begins to wait. It must return before `flush` is
                called, and arrange that `flush` is called soon. As long as a call of `flush` returns True,
                `flush` must be called again.
        """
        self.connections: dict[str, Connection] = {}
        self.channels: dict[str, dict[Connection, None]] = {}
        self.users: dict[str, Connections] = {}
        self.offsets: Offsets = (0,)
        self.deliveries = 0
        self.writes = 0
        self.waiting_events = 0
        self.changes = RecentChanges()
        self._root = Batch()
        # Changes (edits and deletions) are numbered. `_began` is the number of the last change before the
        # round that is being collected. `_sent_began` is the same for the round that is being written.
        self._began = self._sent_began = 0
        self._waiting_by_format: list[list[Connection]] = [[] for _ in formats]
        self._slices: deque[tuple[int, list[Connection]]] = deque()
        self._sent = Batch()
        # The rest of each very large batch of the round that is being written.
        self._rests: dict[Batch, Batch] = {}
        self._flush_is_due = False
        self._formats = formats
        self._schedule_flush = schedule_flush

    # -- the registry

    def add(self, connection: Connection) -> None:
        self.connections[connection.id] = connection
        self.users[connection.user] = with_connection(self.users.get(connection.user), connection)

    def remove(self, connection: Connection) -> None:
        """Remove a connection, which must have been unsubscribed from all its channels."""
        del self.connections[connection.id]
        others = without_connection(self.users[connection.user], connection)
        if others is None:
            del self.users[connection.user]
        else:
            self.users[connection.user] = others

    def subscribe(self, connection: Connection, channel: str, read_range: ReadRange) -> None:
        connection.channels[channel] = read_range
        self.channels.setdefault(channel, {})[connection] = None

    def unsubscribe(self, connection: Connection, channel: str) -> None:
        del connection.channels[channel]
        members = self.channels[channel]
        del members[connection]
        if not members:
            del self.channels[channel]

    # -- the hot path

    def deliver(self, entry: Entry) -> None:
        """Deliver an accepted event to its recipients on this node.

        The caller delivers the entries of one shard in offset order.
        """
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
        """Deliver an event about some users; each of these users receives only the part about the others."""
        event, name = entry.event, entry.event.channel
        own = {
            connection: None
            for user in event.about
            for connection in self.users.get(user, ())
            if name in connection.channels
        }
        if not event.is_for("", PresenceAudience.IF_ANNOUNCED):
            # In a channel without `notify_presence`, only connections with `PresenceAudience.ALWAYS` receive
            # this event.
            self._enqueue(
                [member for member in members if member.receives(event) and member not in own], entry
            )
        else:
            self._enqueue([member for member in members if member not in own] if own else members, entry)
        for connection in own:
            if connection.receives(event):
                self._enqueue([connection], entry.for_user(connection.user))

    def _enqueue(self, recipients: dict[Connection, None] | list[Connection], entry: Entry) -> None:
        self.deliveries += len(recipients)
        self.waiting_events += 1
        root = self._root
        waiting = self._waiting_by_format
        # Successive recipients mostly have the same batch. So the last result of `append` is reused, which
        # saves most calls.
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
                waiting[connection.format_number].append(connection)
        if not self._flush_is_due:
            self._ask_for_flush()

    def _ask_for_flush(self) -> None:
        self._flush_is_due = True
        self._schedule_flush()

    def flush(self) -> bool:
        """Write the waiting batches: one write per connection.

        Connections that wait for the same events are sent the same bytes. One call does about 5 ms of work:
        `SLICE` writes, or fewer if the batches are large. If more is left, `flush` returns True, and the
        caller calls it again soon.
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
        self._rests.clear()
        self._sent_began = self._began
        self._flush_is_due = False
        if any(self._waiting_by_format):
            self._ask_for_flush()
        return False

    def _begin_round(self) -> None:
        """Begin a round with the connections that wait now. Later events wait for the next round."""
        for number, waiting in enumerate(self._waiting_by_format):
            if waiting:
                self._waiting_by_format[number] = []
                self._slices.extend(
                    (number, waiting[at : at + SLICE]) for at in range(0, len(waiting), SLICE)
                )
        self.waiting_events = 0
        self._sent = self._root.detach_children()
        self._sent_began, self._began = self._began, self.changes.number

    def _record_change(self, entry: Entry) -> None:
        if not self._flush_is_due:  # Nothing waits, so no entry needs the older changes.
            self._sent_began = self._began = self.changes.number
        self.changes.add(entry, needed=self._sent_began)
        for name in sorted(entry.event.only or ()):
            for connection in list(self.users.get(name, ())):
                if not _is_in_audience(connection, entry.event):
                    self._flush_alone(connection)

    def _flush_alone(self, connection: Connection) -> None:
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
        connection.batch = self._root
        try:
            if items := items_of(format_, forms):
                connection.write(format_.enclose(items, forms[-1].position))
        except Exception:
            self._close_failed(connection, batch)

    def _waiting_changes(self) -> Changes:
        """Return the changes that were delivered since the first entry of the round that is being written."""
        changes = self.changes.after(self._sent_began)
        assert changes is not None  # noqa: S101 - `RecentChanges.add` keeps them
        return Changes(changes)

    def _write_out(self, number: int, waiting: list[Connection], left: int) -> int:
        """Write to each of the connections, and return how many writes of `left` remain.

        Connections for which no write remains wait for the next call of `flush`. If a write fails, the stream
        of that connection is closed, and the connections after it wait for the next call.
        """
        format_ = self._formats[number]
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
                    following = self._rest(batch, changes) if batch.has_rest else root
                    known = batch.known_bytes(number, changes)
                    if known is None:
                        data = batch.encoded(format_, changes)
                        left -= len(data) // ENCODE_BYTES
                    else:
                        data = known
                    cost = 1 + len(data) // WRITE_BYTES
                # Skip a connection that was detached while it waited, or whose stream has another format now.
                if batch.entry is not None and connection.format_number == number:
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
            remaining = list(rest)
            self.writes += len(waiting) - len(remaining)
            if remaining:
                self._slices.appendleft((number, remaining))
        return left

    def _rest(self, batch: Batch, changes: Changes) -> Batch:
        """Return the rest of a very large batch, for the next round."""
        rest = self._rests.get(batch)
        if rest is None:
            rest = self._root
            # Apply all changes now: the next round no longer knows those from before `_begin_round`.
            for entry in current_forms(batch.rest(), changes):
                rest = rest.append(entry)
            self._rests[batch] = rest
        return rest

    def _close_failed(self, connection: Connection, batch: Batch) -> None:
        """Close a stream on which a write has failed.

        The batch is put back first, so that `delivered` becomes the position before that batch.
        """
        if connection.stream is not None and connection.state is ConnectionState.LIVE:
            connection.batch = batch
            connection.stream.close(CloseCode.OVERLOADED, "a write has failed")

    def _addressees(self, entry: Entry) -> list[Connection]:
        """Return the recipients of an event for certain users. They are found by user, not by channel."""
        event = entry.event
        if event.channel is None:  # It has no audience but its names.
            return [connection for name in event.addressees for connection in self.users.get(name, ())]
        return [
            connection
            for name in event.only or ()
            for connection in self.users.get(name, ())
            if _is_in_audience(connection, event)
        ]

    # -- a connection's stream

    def attach(self, connection: Connection, stream: Stream, batch: Batch) -> None:
        """Attach a stream to a connection; until `go_live`, `batch` collects the connection's events."""
        self.stop_writing(connection)
        connection.move(Step.ATTACH)
        connection.stream = stream
        connection.write = stream.write
        connection.format_number = stream.format.number
        connection.batch = batch
        connection.deadline_s = None

    def go_live(self, connection: Connection, buffered: Iterable[Entry]) -> None:
        """Write the entries `buffered` during the catch-up, and from now on each event as it arrives."""
        connection.move(Step.CAUGHT_UP)
        connection.batch = self._root
        for entry in buffered:
            self._enqueue([connection], entry)

    def stall(self, connection: Connection, batch: Batch) -> None:
        """Stop writing to a live connection; from now on `batch` collects the connection's events."""
        connection.move(Step.STALL)
        self._flush_pending(connection)
        if connection.state is ConnectionState.CATCHING_UP:  # Unless that write has ended the stream.
            connection.batch = batch

    def detach(self, connection: Connection, deadline_s: float) -> None:
        """Take the stream from a connection.

        The connection stays a member of its channels until its deadline. The events that wait are not
        written: the log has them for the next stream.
        """
        self.discard_pending(connection)
        connection.move(Step.DETACH)
        connection.stream = None
        connection.deadline_s = deadline_s
        connection.batch = DISCARD

    def discard_pending(self, connection: Connection) -> None:
        """Write nothing more to a live connection whose client no longer reads.

        The events that wait stay in the log. A connection that is not live is left unchanged.
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
        """Write the events that wait, and nothing more; `connection.delivered` is valid afterwards."""
        if connection.state is ConnectionState.LIVE and connection.batch is not DISCARD:
            self._flush_pending(connection)
        connection.batch = DISCARD

    def _flush_pending(self, connection: Connection) -> None:
        """Write the batch of a connection that was live until now, and set `delivered`.

        If everything is written, `delivered` becomes `Hub.offsets`. If the write fails, or the batch is a
        very large one, `delivered` becomes the position before the batch, and the client gets these events
        from the log.

        `stall` calls this method when the transport is full already. Since a very large batch is not written,
        this write adds at most about `BATCH_SIZE` bytes, or one larger entry, to the full transport.
        """
        if connection.batch.has_rest:
            self.discard_pending(connection)
            return
        batch, connection.batch = connection.batch, self._root
        delivered = None
        try:
            data = batch.encoded(self._formats[connection.format_number], self._waiting_changes())
            if data:
                connection.write(data)
        except Exception:
            delivered = batch.entries()[0].offsets_before
        if connection.batch is self._root:  # Unless that write has ended the stream.
            connection.delivered = self.offsets if delivered is None else delivered


def _is_in_audience(connection: Connection, event: Event) -> bool:
    """Whether a connection of an addressed user receives the event.

    An event of a channel goes only to those of the user's connections that are in that channel.
    """
    return (event.channel is None or event.channel in connection.channels) and connection.receives(event)
