"""The connections that this node holds: created, changed, ended and expired, in the hub here and in the engine.

Invariant: while a connection lives, the hub knows its memberships at least as long as the engine counts them. It is
subscribed in the hub before the engine joins it, and unsubscribed there after the engine has let it leave. An event
that is accepted right after the engine counts the member may arrive here before the answer to `join`; in the other
order it would find no member and be lost. The cost is that a few events arrive which the connection may not read:
each has an offset, so reading drops them (`ReadRange`). A live stream reads nothing, so the node first receives what
was accepted before the call (`_receive_earlier`).

While the engine is asked, `Connection.joining` and `Connection.leaving` name the channels in between. The log of a
joining channel is not read, since its join offset is unknown; a leaving one is not reported to an engine that
restores registrations (`membership`), or it would be joined again.

Operations on one connection run under the lock of its id (`locks.py`). `forget` does not need it: another node may
take a connection over at any moment, and that notice cannot wait for the operation under way. So each operation
checks after an `await` of the engine whether the connection is still here (`check_local`), and raises `Moved` if
not.
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from channelstream.close_codes import CloseCode
from channelstream.core.client_protocol import ClientProtocol
from channelstream.core.connection import NO_NAMES, Connection, ConnectionState, Step, without
from channelstream.core.endings import Ending, Endings
from channelstream.core.hub import Hub
from channelstream.core.log import PRIVATE
from channelstream.core.position import UNKNOWN_POSITION, Position, ReadRange, shard_of
from channelstream.core.user import User, UserUpdate
from channelstream.engines.base import Clock, Directory, EventLog, Registered
from channelstream.engines.members import Member, member_of
from channelstream.errors import Moved, Unavailable
from channelstream.service.departures import Departures
from channelstream.service.disconnect_queue import DisconnectQueue
from channelstream.service.limits import NodeLimits
from channelstream.service.locks import Locks
from channelstream.service.restoring import RestoredConnections
from channelstream.service.room import Room
from channelstream.service.signals import Signals

LAST_MESSAGES_S = 1.0
"""How long the end of a connection waits for its last messages, in seconds: an engine that hangs must not keep it open."""
_REGISTERING = frozenset({PRIVATE})
"""What a connection joins until it is registered."""


class LocalConnections:
    """The connections of this node, and the operations on them.

    The caller of a coroutine that is about one connection holds the lock of its id, unless the docstring says
    otherwise.

    Attributes:
        locks: by connection id.
        departures: the connections that end at their deadline, or soon.
        restored: those of the last run, or of another process, until their streams attach.
        endings: the streams and connections that ended lately, and why.
        room: how many connections and channels each application may have.
    """

    def __init__(
        self,
        directory: Directory,
        log: EventLog,
        hub: Hub,
        clock: Clock,
        limits: NodeLimits,
        signals: Signals,
    ) -> None:
        self.endings = Endings()
        self.locks = Locks()
        self._signals = signals
        self._directory = directory
        self._log = log
        self._hub = hub
        self._clock = clock
        self._limits = limits
        self.room = Room(hub, limits.apps)
        disconnects = DisconnectQueue(directory.disconnect_all)
        self.departures = Departures(disconnects, clock, self.locks, self.forget)
        self.restored = RestoredConnections(hub, self.departures, clock, limits)

    def get(self, conn_id: str) -> Connection | None:
        """Return a connection, which is no seat."""
        return self._hub.connections.get(conn_id)

    def find(self, conn_id: str) -> Connection | None:
        """Return a connection or a seat."""
        return self._hub.registered(conn_id)

    # -- creating, joining, ending

    def make(self, conn_id: str, user: str, protocol: ClientProtocol) -> Connection:
        """Return a new connection, which ends unless a stream attaches within `unattached_s`."""
        deadline_s = self._clock.steady() + self._limits.unattached_s
        connection = Connection(conn_id, user, protocol, self._hub.offsets, deadline_s)
        self._hub.add(connection)
        self.departures.deadlines.set(connection, deadline_s)
        return connection

    def drop(self, connection: Connection) -> None:
        """Hold a connection no longer, and announce nothing: another process has it or has ended it, or no engine has it."""
        self.departures.deadlines.drop(connection)
        self._remove(connection)

    @property
    def is_settled(self) -> bool:
        """Whether no operation on a connection is in progress."""
        return not len(self.locks) and self.departures.is_settled

    async def register(
        self,
        connection: Connection,
        update: UserUpdate,
        channels: Mapping[str, Mapping[str, Any]],
        since: Position | None,
    ) -> User | None:
        """Register a new connection with the engine, in these channels; if that fails, forget it. None: its id is taken.

        Args:
            since: the position from which it may read them, and private messages; None means from now on.

        Returns:
            Its user.

        Raises:
            Moved: it has left this node meanwhile.
        """
        registered = None
        self._expect(connection, channels)
        connection.joining = _REGISTERING.union(channels)
        try:
            registered = await self._directory.connect(member_of(connection), update, channels, since)
        finally:
            connection.joining = NO_NAMES
            if registered is None:
                self.forget(connection, CloseCode.UNKNOWN_CONNECTION, "it could not be registered")
        if registered is None:
            return None
        check_local(connection)
        self._begin(connection, registered, since)
        return registered.user

    def register_at_once(
        self,
        member: Member,
        update: UserUpdate,
        channels: Mapping[str, Mapping[str, Any]],
        since: Position | None,
    ) -> User | None:
        """Register a new connection as `register` does, without a wait; None if that takes one: nothing has happened then.

        Needs no lock: nobody knows its id, and nothing happens between the first and the last step.
        """
        connection, registered = self.make(member.conn_id, member.user, member.protocol), None
        self._expect(connection, channels)
        try:
            registered = self._directory.connect_at_once(member, update, channels, since)
        finally:
            if registered is None:
                self.drop(connection)
        if registered is None:
            return None
        self._begin(connection, registered, since)
        return registered.user

    def _expect(self, connection: Connection, channels: Iterable[str]) -> None:
        """Put a connection into channels of the hub that the engine lets it join next.

        An event that is accepted after the join may arrive before the answer to the join.
        """
        offsets = self._hub.offsets
        for name in channels:
            self._hub.subscribe(connection, name, ReadRange.of(offsets[shard_of(name, len(offsets))]))

    def _begin(self, connection: Connection, registered: Registered, since: Position | None) -> None:
        """Let a new connection read its private messages, and its channels."""
        offsets, user = registered.offsets, connection.user
        if offsets != connection.delivered:  # Else it shares the object with the hub, and many others.
            connection.delivered = offsets
        connection.private = self._read_range(user, offsets[shard_of(user, len(offsets))], since)
        for name, offset in registered.joined.items():
            connection.channels[name] = self._read_range(name, offset, since)

    async def join(
        self, connection: Connection, channels: Mapping[str, Mapping[str, Any]], since: Position | None
    ) -> None:
        """Join channels; if that fails, the connection is in none of them.

        Args:
            since: the position from which it may read them; None means from now on.

        Raises:
            Moved: it has left this node.
        """
        await self._receive_earlier(connection, channels)
        self._expect(connection, channels)
        joined: dict[str, int] = {}
        connection.joining = connection.joining.union(channels)
        try:
            joined = await self._directory.join(member_of(connection), channels, since)
        finally:
            connection.joining = without(connection.joining, channels)
            # The connection may have been forgotten meanwhile, and with it these channels.
            for name in channels:
                if name not in connection.channels:
                    continue
                if name in joined:
                    connection.channels[name] = self._read_range(name, joined[name], since)
                else:
                    self._hub.unsubscribe(connection, name)
        check_local(connection)

    async def leave(self, connection: Connection, channels: Iterable[str]) -> list[str]:
        """Leave those of the channels that the connection is in, and return them.

        Raises:
            Moved: it has left this node meanwhile.
        """
        left = [name for name in dict.fromkeys(channels) if name in connection.channels]
        await self._receive_earlier(connection, left)
        # Out of the hub only afterwards: if leaving fails, no event published meanwhile may be missing.
        connection.leaving |= set(left)
        try:
            await self._directory.leave(member_of(connection), left)
        finally:
            connection.leaving = without(connection.leaving, left)
        check_local(connection)
        for name in left:
            if name in connection.channels:
                self._hub.unsubscribe(connection, name)
        return left

    async def _receive_earlier(self, connection: Connection, names: Collection[str]) -> None:
        """Wait until a live stream is sent what was accepted in these channels before this call.

        It may arrive after the answers to calls that are made later (with Redis, which notifies nodes by a connection of
        its own). A message before a join would be sent to the member, and one before a leave or an end would not.

        Raises:
            Moved: the connection has left this node.
        """
        if names and connection.state is ConnectionState.LIVE:
            await self._log.catch_up({self._shard(name) for name in names})
        check_local(connection)

    async def join_again(self, connection: Connection, forgotten: Sequence[str]) -> None:
        """Join the channels whose registration the engine has lost; if that fails, end the connection.

        A stream that opens meanwhile waits (`registered`), since its client must be sent that these channels are
        lost.
        """
        connection.joining |= {PRIVATE}
        try:
            await self._join_or_end(connection, forgotten)
        finally:
            connection.joining = without(connection.joining, {PRIVATE})

    async def _join_or_end(self, connection: Connection, forgotten: Sequence[str]) -> None:
        try:
            # What was missed in between cannot be proven: from no position.
            await self.join(connection, {name: {} for name in forgotten}, UNKNOWN_POSITION)
        except BaseException as error:
            failures = [error]
        else:
            return
        # After the handler, as setup.py says.
        channels = self.forget(
            connection, CloseCode.UNKNOWN_CONNECTION, "its channels could not be joined again"
        )
        with suppress(Unavailable):  # The engine drops the registration with this node's lease.
            await self._directory.disconnect(member_of(connection), channels)
        raise failures.pop()

    async def registered(self, connection: Connection) -> None:
        """Wait until a new connection is registered, with the offsets from which it may read, or gone.

        The caller does not hold the lock of its id.
        """
        if PRIVATE in connection.joining:
            async with self.locks.of(connection.id):
                pass

    async def joined(self, connection: Connection) -> None:
        """Wait until a connection has joined the channels in `joining`, or failed to.

        The caller does not hold the lock of its id.
        """
        if connection.all_joining:
            async with self.locks.of(connection.id):
                pass

    async def disconnect(self, connection: Connection, code: CloseCode, reason: str) -> None:
        """End a connection of this node: close its stream, leave its channels, forget its id."""
        with suppress(Moved):  # Another node owns it by now: there is nothing of ours to end.
            await self.end(connection, code, reason)

    async def end(self, connection: Connection, code: CloseCode, reason: str, recorded: str = "") -> None:
        """End a connection as `disconnect` does.

        Args:
            recorded: as of `forget`.

        Raises:
            Moved: another node owns it by now.
        """
        if connection.state is not ConnectionState.CLOSED:
            with suppress(Unavailable, TimeoutError):
                async with asyncio.timeout(LAST_MESSAGES_S):
                    await self._receive_earlier(connection, (connection.user, *connection.readable))
            channels = self.forget(connection, code, reason, recorded)
            await self._directory.disconnect(member_of(connection), channels)

    def forget(self, connection: Connection, code: CloseCode, reason: str, recorded: str = "") -> list[str]:
        """Remove a connection from this node only, and return its channels; the engine still counts it.

        Needs no lock. The list is empty if the connection was forgotten before. Its seats end: they are forgotten and
        unregistered, at once or after the operation on them that is under way.

        Args:
            recorded: what is recorded in place of the reason that the client is sent; empty means the same.
        """
        if connection.state is ConnectionState.CLOSED:
            return []
        for seat in (connection.seats or {}).values():
            self.departures.end_soon(seat, code, reason)
        self._hub.stop_writing(connection)
        connection.move(Step.CLOSE)
        self.departures.deadlines.drop(connection)
        if connection.receiver is connection:
            self.record_ending(connection, code, recorded or reason, final=True)
        stream, connection.stream = connection.stream, None
        channels = self._remove(connection)
        if stream is not None:
            stream.close(code, reason)
        return channels

    def _remove(self, connection: Connection) -> list[str]:
        """Remove a connection from the hub, and return its channels."""
        channels = list(connection.channels)
        for name in channels:
            self._hub.unsubscribe(connection, name)
        self._hub.remove(connection)
        return channels

    def restore_subscriptions(
        self, connection: Connection, channels: Mapping[str, ReadRange], private: ReadRange | None
    ) -> None:
        """Subscribe a connection to the channels in which the engine counts it.

        Args:
            channels: each with the range of its log that the connection may read.
            private: likewise for private messages; None: what it has missed of them cannot be proven.
        """
        for name, read_range in channels.items():
            self._hub.subscribe(connection, name, read_range)
        shard = self._shard(connection.user)
        connection.private = private or ReadRange.of(self._hub.offsets[shard], -1)

    def _shard(self, name: str) -> int:
        return shard_of(name, len(self._hub.offsets))

    def _read_range(self, name: str, joined: int, since: Position | None) -> ReadRange:
        """Return the range that may be read of a channel, or of a user's private messages, joined at this offset."""
        if since is None:
            return ReadRange.of(joined)
        return ReadRange.granted(joined, since, self._log.position.epochs, self._shard(name))

    # -- streams attach and detach

    def record_ending(self, connection: Connection, code: int | None, reason: str, *, final: bool) -> None:
        """Record why a connection (`final`), or one stream of it, has ended."""
        self.endings.add(Ending(self._clock.wall(), connection.id, connection.user, code, reason, final))
        self._signals.ended.emit(connection, code, reason)

    def detached(self, connection: Connection, grace_s: float) -> None:
        """Take the lost stream from a connection, which ends unless another one attaches within `grace_s`."""
        deadline_s = self._clock.steady() + grace_s
        self._hub.detach(connection, deadline_s)
        self.departures.expire_at(connection, deadline_s)
        self._signals.detached.emit(connection, grace_s)

    def extend(self, connection: Connection, seconds: float) -> None:
        """Extend the life of a connection without a stream to so many seconds from now; never shorten it."""
        if connection.state is ConnectionState.DETACHED:
            self.departures.extend(connection, seconds)

    def attached(self, connection: Connection) -> None:
        """Cancel the deadline of a connection that has a stream."""
        self.departures.deadlines.drop(connection)
        self._signals.attached.emit(connection)


def check_local(connection: Connection) -> None:
    """Raise `Moved` if the connection has left this node, which can happen at any `await`."""
    if connection.state is ConnectionState.CLOSED:
        raise Moved
