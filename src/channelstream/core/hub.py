"""The connections of this process, and the delivery of events to them.

`deliver` and `flush` are the hot path; how `flush` works is in `core.rounds`.

A batch is a list of log entries that wait to be written. Each batch is its parent batch plus one entry, and
all batches begin at an empty root. So connections that wait for the same entries share one batch
(`core.batch`). For each recipient `deliver` only changes one reference, `connection.batch`: it then refers to
the former batch with the new entry appended. `flush` encodes each distinct batch once per format, and calls
`write` once for each connection. Neither method awaits or logs, and neither encodes or copies anything per
recipient, except for one whom an edit names and leaves out (`Rounds.write_alone`). With a queue for each
connection, every event would cost an append per recipient, and every flush an encoding per connection.

These rules hold whenever `deliver` may be called:

- `connection.batch` has one of four values. `append` works for each of them, so `deliver` needs no branch for
  a connection that is not written to:
  - `Rounds.root`: the connection is live, and nothing waits.
  - A batch that grew from the root of this round or the next one: the connection is live, and entries wait.
  - A `BufferBatch`: the connection is catching up.
  - `DISCARD`: nothing is written any more. Either the connection is detached, or its client has closed the
    stream, which ends in a later loop turn.
- `connection.delivered`, the position up to which the client was sent everything, is not updated while a
  connection is live. That would cost an assignment per recipient. It is set when the hub stops writing live
  events to the connection. Its value is the position before the first unwritten entry, or `Hub.offsets` if
  every entry was written.
"""

from collections.abc import Callable, Iterable, Sequence

from channelstream.core.batch import DISCARD, Batch
from channelstream.core.client_protocol import PresenceAudience
from channelstream.core.connection import Connection, ConnectionState, Step, Stream
from channelstream.core.connections_of import Connections, with_connection, without_connection
from channelstream.core.entry import Entry
from channelstream.core.events import Event
from channelstream.core.format import Format
from channelstream.core.frequent import Frequent
from channelstream.core.position import Offsets, ReadRange
from channelstream.core.rounds import MANY_EVENTS, Rounds, Written
from channelstream.core.seat import Seat
from channelstream.core.usage import Usage


class Hub:
    """Registry of local connections, their channels and users.

    Attributes:
        connections: all but seats, by their ids.
        seats: the seats of these connections, by their ids.
        channels: of each channel the connections whose streams are sent its events; no seats.
        users: of each user the connections, seats among them.
        offsets: the position up to which this node has received the log, one offset for each shard.
        deliveries: deliveries to connections since the start, one for each event and recipient.
        busiest: the channels with the most deliveries in the present window; what reads it clears it (`RecentRates`).
        rounds: the flush, and the connections that wait for it.
        changes: recent edits and deletions.
        usage: how many connections and channels each owner has.
    """

    def __init__(
        self,
        formats: Sequence[Format],
        schedule_flush: Callable[[], None],
        end_pause: Callable[[], None] = lambda: None,
        usage: Usage | None = None,
    ) -> None:
        """Create an empty hub.

        Args:
            formats: all formats of streams, each at its number.
            schedule_flush: called when the first connection begins to wait. It must return before `flush` is
                called, and arrange that `flush` is called soon. As long as a call of `flush` returns True,
                `flush` must be called again.
            end_pause: called when `MANY_EVENTS` wait, and the flush need not be delayed any longer.
            usage: counts what is added and removed; None means that all has one owner.
        """
        self.connections: dict[str, Connection] = {}
        self.seats: dict[str, Seat] = {}
        self.channels: dict[str, dict[Connection, None]] = {}
        self.users: dict[str, Connections] = {}
        self.offsets: Offsets = (0,)
        self.deliveries = 0
        self.busiest: Frequent[str] = Frequent()
        self.rounds = Rounds(formats, schedule_flush, end_pause)
        self.changes = self.rounds.changes
        self.usage = usage or Usage()

    @property
    def writes(self) -> int:
        """Writes to streams in flushes since the start."""
        return self.rounds.writes

    @property
    def written(self) -> Written:
        """What was written to streams since the start."""
        return self.rounds.written

    @property
    def waiting_events(self) -> int:
        """Events delivered since the last round of the flush began."""
        return self.rounds.waiting_events

    # -- the registry

    def registered(self, conn_id: str) -> Connection | None:
        """Return the connection, or the seat, that the engine knows by an id; None if there is none here."""
        return self.connections.get(conn_id) or self.seats.get(conn_id)

    def all_registered(self) -> list[Connection]:
        """Return all connections, and their seats."""
        return [*self.connections.values(), *self.seats.values()]

    def add(self, connection: Connection) -> None:
        self.connections[connection.id] = connection
        self.usage.connections[self.usage.owner_of(connection.id)] += 1
        self._add_to_user(connection)

    def add_seat(self, seat: Seat) -> None:
        """Add a seat of a connection that has none in that channel."""
        self.seats[seat.id] = seat
        seat.holder.seats = {**(seat.holder.seats or {}), seat.channel: seat}
        self._add_to_user(seat)

    def _add_to_user(self, connection: Connection) -> None:
        self.users[connection.user] = with_connection(self.users.get(connection.user), connection)

    def remove(self, connection: Connection) -> None:
        """Remove a connection or a seat, which must have been unsubscribed from all its channels."""
        if isinstance(connection, Seat):
            del self.seats[connection.id]
            seats = connection.holder.seats or {}
            connection.holder.seats = {
                name: each for name, each in seats.items() if each is not connection
            } or None
        else:
            del self.connections[connection.id]
            self.usage.connections[self.usage.owner_of(connection.id)] -= 1
        others = without_connection(self.users[connection.user], connection)
        if others is None:
            del self.users[connection.user]
        else:
            self.users[connection.user] = others

    def subscribe(self, connection: Connection, channel: str, read_range: ReadRange) -> None:
        connection.channels[channel] = read_range
        members = self.channels.get(channel)
        if members is None:
            members = self.channels[channel] = {}
            self.usage.channels[self.usage.owner_of(channel)] += 1
        members[connection.receiver] = None

    def unsubscribe(self, connection: Connection, channel: str) -> None:
        connection.left(channel)
        receiver = connection.receiver
        if receiver.is_sent(channel):
            return  # It is in the channel by itself as well as by a seat, and only one of both leaves.
        members = self.channels[channel]
        del members[receiver]
        if not members:
            del self.channels[channel]
            self.usage.channels[self.usage.owner_of(channel)] -= 1

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
        self.busiest[event.channel] += len(members)
        if event.is_public:
            self._enqueue(members, entry)
        elif event.about:
            self._enqueue_about(members, entry)
        else:
            self._enqueue(self._receivers(members, event), entry)

    def _receivers(
        self, members: dict[Connection, None], event: Event
    ) -> dict[Connection, None] | list[Connection]:
        """Return the members who receive an event that is not for all of them."""
        if event.exclude is not None or event.exclude_connection is None:
            return [member for member in members if member.receives(event)]
        # The other members are not asked one by one: each client event of Pusher's protocol takes this way, and so does
        # `toOthers` of Laravel.
        excluded = self.connections.get(event.exclude_connection)
        if excluded not in members:
            return members
        return [member for member in members if member is not excluded]

    def _enqueue_about(self, members: dict[Connection, None], entry: Entry) -> None:
        """Deliver an event about some users; each of these users receives only the part about the others."""
        event, name = entry.event, entry.event.channel
        own = {
            connection.receiver: None
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
                self._enqueue([connection], entry.for_user(connection.member_in(name).user))

    def _enqueue(self, recipients: dict[Connection, None] | list[Connection], entry: Entry) -> None:
        self.deliveries += len(recipients)
        rounds = self.rounds
        rounds.waiting_events += 1
        root = rounds.root
        waiting = rounds.waiting
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
        if not rounds.is_due:
            rounds.ask()
        elif rounds.waiting_events == MANY_EVENTS:
            rounds.end_pause()

    def flush(self) -> bool:
        """Write some of the waiting batches; True if more are left (`Rounds.flush`)."""
        return self.rounds.flush()

    def _record_change(self, entry: Entry) -> None:
        self.rounds.add_change(entry)
        for name in sorted(entry.event.only or ()):
            for connection in list(self.users.get(name, ())):
                if not _is_in_audience(connection, entry.event):
                    self.rounds.write_alone(connection)

    def _addressees(self, entry: Entry) -> list[Connection]:
        """Return the recipients of an event for certain users. They are found by user, not by channel."""
        event = entry.event
        if event.channel is None:  # It has no audience but its names.
            return [connection for name in event.addressees for connection in self.users.get(name, ())]
        return [
            connection.receiver
            for name in event.only or ()
            for connection in self.users.get(name, ())
            if _is_in_audience(connection, event)
        ]

    # -- a connection's stream

    def attach(self, connection: Connection, stream: Stream, batch: Batch) -> None:
        """Attach a stream to a connection; until `go_live`, `batch` collects the connection's events."""
        if connection.state is ConnectionState.LIVE:
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
        connection.batch = self.rounds.root
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
        del connection.write
        connection.deadline_s = deadline_s
        connection.batch = DISCARD

    def discard_pending(self, connection: Connection) -> None:
        """Write nothing more to a live connection whose client no longer reads.

        The events that wait stay in the log. A connection that is not live is left unchanged.
        """
        if connection.batch is self.rounds.root:
            connection.delivered = self.offsets
        elif waiting := connection.batch.entries():
            connection.delivered = waiting[0].offsets_before
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
        batch, connection.batch = connection.batch, self.rounds.root
        delivered = None
        try:
            data = self.rounds.encoded(batch, connection.format_number)
            if data:
                connection.write_all(data)
                self.rounds.written.add(batch.count, len(data))
        except Exception:
            delivered = batch.entries()[0].offsets_before
        if connection.batch is self.rounds.root:  # Unless that write has ended the stream.
            connection.delivered = self.offsets if delivered is None else delivered


def _is_in_audience(connection: Connection, event: Event) -> bool:
    """Whether a connection of an addressed user receives the event.

    An event of a channel goes only to those of the user's connections that are in that channel, as this user.
    """
    name, receiver = event.channel, connection.receiver
    is_member = name is None or (name in connection.channels and receiver.member_in(name) is connection)
    return is_member and receiver.receives(event)
