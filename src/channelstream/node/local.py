"""The connections this node holds: made, changed, ended and expired, in the hub here and in the engine."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar

from channelstream.core.connection import Connection, ConnectionState, Step
from channelstream.core.deadlines import SLOT_S, Deadlines
from channelstream.core.endings import Ending, Endings
from channelstream.core.events import Dialect
from channelstream.core.hub import Hub
from channelstream.core.position import UNKNOWN_POSITION, Offsets, Position, ReadRange, shard_of, with_offset
from channelstream.engines.base import (
    PRIVATE,
    Clock,
    Engine,
    Leaving,
    Member,
    Membership,
    UserChange,
    UserUpdate,
)
from channelstream.errors import CloseCode, Invalid, Moved, Unavailable
from channelstream.node.commands import Answer, Command, End, Release, Subscribe, Unsubscribe
from channelstream.node.disconnect_queue import DisconnectQueue
from channelstream.node.locks import Lock, Locks
from channelstream.node.observer import Observer
from channelstream.slices import Slices


@dataclass(frozen=True, slots=True)
class NodeLimits:
    """Bounds of connections.

    Attributes:
        connections: registered at a time; more are refused with 503.
        channels_per_connection: channels one connection may be in; more are refused with 422.
        unattached_s: how long a connection lives that never had a stream, in seconds. How long it outlives a stream
            depends on the transport and is passed to `detached`.
    """

    connections: int = 1_000_000
    channels_per_connection: int = 1000
    unattached_s: float = 15.0


class LocalConnections:
    """Who is here, and what happens to them.

    Whoever calls a coroutine of it that is about one connection holds the turn of its id, unless it says otherwise.

    Attributes:
        turns: by connection id: for whoever makes, changes or ends a connection here.
        endings: the streams and connections that ended lately, and why.
        observer: None unless somebody traces.
    """

    def __init__(self, engine: Engine, hub: Hub, clock: Clock, limits: NodeLimits) -> None:
        self.endings = Endings()
        self.locks = Locks()
        self.observer: Observer | None = None
        self._engine = engine
        self._hub = hub
        self._clock = clock
        self._limits = limits
        self._deadlines: Deadlines[Connection] = Deadlines()
        self._disconnects = DisconnectQueue(engine.disconnect_all)
        self._ending: set[asyncio.Task[None]] = set()

    def get(self, conn_id: str) -> Connection | None:
        return self._hub.connections.get(conn_id)

    def membership(self, conn_id: str) -> Membership | None:
        connection = self.get(conn_id)
        if connection is None:
            return None
        channels = {
            name: None if name in connection.joining else read_range
            for name, read_range in connection.channels.items()
            if name not in connection.leaving
        }
        return Membership(_member(connection), channels, connection.private)

    # -- coming and going

    def make(self, conn_id: str, user: str, dialect: Dialect) -> Connection:
        """Hold a new connection, which has a while to be given a stream."""
        deadline_s = self._clock.steady() + self._limits.unattached_s
        connection = Connection(conn_id, user, dialect, self._hub.offsets, deadline_s)
        self._hub.add(connection)
        self._deadlines.set(connection, deadline_s)
        return connection

    async def register(
        self, connection: Connection, update: UserUpdate, since: Position | None
    ) -> UserChange | None:
        """Make a new connection known to the engine; where that fails it is gone.

        Args:
            since: from where it may read private messages; None means from now on.
        """
        change = None
        connection.joining |= {PRIVATE}
        try:
            change = await self._engine.connect(_member(connection), update, since)
        finally:
            connection.joining -= {PRIVATE}
            if change is None:
                self.forget(connection, CloseCode.UNKNOWN_CONNECTION, "it could not be registered")
            else:
                connection.delivered = change.offsets
                connection.private = self._read_range(
                    connection.user, change.offsets[self._shard(connection.user)], since
                )
        return change

    async def join(
        self, connection: Connection, channels: Mapping[str, Mapping[str, Any]], since: Position | None
    ) -> None:
        """Let a connection join channels; where that fails it is in none of them.

        Args:
            since: from where it may read them; None means from now on.

        Raises:
            Moved: it has left this node.
        """
        _check_local(connection)
        # Into the hub first: with a shared engine, what is published while it answers must find the member here.
        for name in channels:
            self._hub.subscribe(connection, name, ReadRange.of(self._hub.offsets[self._shard(name)]))
        joined = None
        connection.joining |= channels.keys()
        try:
            joined = await self._engine.join(_member(connection), channels, since)
        finally:
            connection.joining -= channels.keys()
            for name in set(channels) & connection.channels.keys():
                if joined is None:
                    self._hub.unsubscribe(connection, name)
                else:
                    connection.channels[name] = self._read_range(name, joined[name], since)

    async def join_again(self, connection: Connection, forgotten: Sequence[str]) -> None:
        """Join what the engine has forgotten; a connection without it must not go on as if it were whole.

        A stream that opens meanwhile waits (`registered`), as it must be sent that these channels are lost.
        """
        connection.joining |= {PRIVATE}
        try:
            # Nobody can prove what was missed of them meanwhile.
            await self.join(connection, {name: {} for name in forgotten}, UNKNOWN_POSITION)
        except BaseException:
            channels = self.forget(
                connection, CloseCode.UNKNOWN_CONNECTION, "its channels could not be joined again"
            )
            with suppress(Unavailable):  # It has forgotten the connection, or does so with this node's lease.
                await self._engine.disconnect(_member(connection), channels)
            raise
        finally:
            connection.joining -= {PRIVATE}

    async def registered(self, connection: Connection) -> None:
        """Wait until the engine counts a new connection in, and it is known from where it may be read, or it is gone.

        Who calls this does not hold the turn of its id.
        """
        if PRIVATE in connection.joining:
            async with self.locks.of(connection.id):
                pass

    async def joined(self, connection: Connection) -> None:
        """Wait until a connection is in the channels that it is just joining, or in none of them.

        Who calls this does not hold the turn of its id.
        """
        if connection.joining:
            async with self.locks.of(connection.id):
                pass

    def check_channel_count(self, count: int) -> None:
        """Raise Invalid if a connection may not have so many channels."""
        limit = self._limits.channels_per_connection
        if count > limit:
            raise Invalid({"channels": [f"A connection may have at most {limit} channels."]})

    async def disconnect(self, connection: Connection, code: CloseCode, reason: str) -> None:
        """End a connection of this node: its stream closed, its user parted, its id unknown."""
        with suppress(Moved):  # Another node has it by now: there is nothing of ours to end.
            await self._end(connection, code, reason)

    async def _end(self, connection: Connection, code: CloseCode, reason: str) -> None:
        if connection.state is not ConnectionState.CLOSED:
            channels = self.forget(connection, code, reason)
            await self._engine.disconnect(_member(connection), channels)

    def forget(self, connection: Connection, code: CloseCode, reason: str) -> list[str]:
        """Hold a connection no longer and return the channels it had; the engine is not told.

        None where it is held no longer anyway: another node may take it over whatever is just done here.
        """
        if connection.state is ConnectionState.CLOSED:
            return []
        self._hub.stop_writing(connection)
        connection.move(Step.CLOSE)
        self._deadlines.drop(connection)
        self.record_ending(connection, code, reason, final=True)
        stream, connection.stream = connection.stream, None
        channels = list(connection.channels)
        for name in channels:
            self._hub.unsubscribe(connection, name)
        self._hub.remove(connection)
        if stream is not None:
            stream.close(code, reason)
        return channels

    def restore_subscriptions(
        self, connection: Connection, channels: Mapping[str, ReadRange], private: ReadRange | None
    ) -> None:
        """Let a connection be where the engine counts it in.

        Args:
            channels: each with from where the connection may read it.
            private: likewise for private messages; None: nobody can prove what it has missed of them.
        """
        for name, read_range in channels.items():
            self._hub.subscribe(connection, name, read_range)
        shard = self._shard(connection.user)
        connection.private = private or ReadRange.of(self._hub.offsets[shard], -1)

    # -- what is asked of one of them, from here or from another node

    async def do(self, connection: Connection, command: Command) -> Answer:
        """Do what is asked of a connection; the answer says so if it has left this node meanwhile.

        Raises:
            Invalid: it is refused.
            Unavailable: the engine is out of reach.
        """
        try:
            return await self._do[type(command)](self, connection, command)
        except Moved:
            return Answer(held=False)

    async def _do_subscribe(self, connection: Connection, asked: Subscribe) -> Answer:
        if asked.reconnect is not None and asked.reconnect.user != connection.user:
            raise Invalid({"conn_id": ["This connection belongs to another user."]})
        new = {name: patch for name, patch in asked.channels.items() if name not in connection.channels}
        self.check_channel_count(len(connection.channels) + len(new))
        if asked.reconnect is not None:
            await self._engine.update_user(connection.user, asked.reconnect.update)
        await self.join(connection, new, parse_since(asked.since))
        _check_local(connection)
        if asked.reconnect is not None and connection.stream is None:
            self._expire_after(connection, self._limits.unattached_s)
        return _answer(connection, new)

    async def _do_unsubscribe(self, connection: Connection, asked: Unsubscribe) -> Answer:
        left = [name for name in dict.fromkeys(asked.channels) if name in connection.channels]
        # Out of the hub only when it is done: where it fails, what is published meanwhile must not be missing.
        connection.leaving |= set(left)
        try:
            await self._engine.leave(_member(connection), left)
        finally:
            connection.leaving -= set(left)
        _check_local(connection)
        for name in left:
            if name in connection.channels:
                self._hub.unsubscribe(connection, name)
        return _answer(connection, left)

    async def _do_end(self, connection: Connection, asked: End) -> Answer:
        await self._end(connection, CloseCode(asked.code), asked.reason)
        return _answer(connection, ())

    async def _do_release(self, connection: Connection, asked: Release) -> Answer:
        channels = self.forget(connection, CloseCode.REPLACED, "replaced by a stream at another node")
        return Answer(held=True, channels=sorted(channels), delivered=connection.delivered)

    _do: ClassVar[dict[type[Any], Callable[..., Awaitable[Answer]]]] = {
        Subscribe: _do_subscribe,
        Unsubscribe: _do_unsubscribe,
        End: _do_end,
        Release: _do_release,
    }

    # -- what the engine tells

    def lost(self, channels: Collection[str], users: Collection[str]) -> None:
        """Close the streams whose connections missed something: with `since` they are told what is lost."""
        missed: dict[Connection, None] = {}
        for name in channels:
            missed |= self._hub.channels.get(name, {})
        for name in users:
            missed |= self._hub.users.get(name, {})
        for connection in missed:
            if connection.stream is not None:
                connection.stream.close(CloseCode.TOO_SLOW, "the log no longer reaches back")

    def log_replaced(self, shard: int, offsets: Offsets) -> None:
        """Close the streams that hear this shard: who comes back with a position of the older log is told of the loss."""
        self._hub.offsets = offsets
        lost = {name for name in self._hub.channels if self._shard(name) == shard}
        for connection in list(self._hub.connections.values()):
            mine = connection.channels.keys() & lost
            if connection.stream is not None and (mine or self._shard(connection.user) == shard):
                connection.stream.close(CloseCode.RESTARTING, "the log was lost")
            connection.delivered = with_offset(connection.delivered, shard, offsets[shard])
            connection.channels.update(dict.fromkeys(mine, ReadRange.of(offsets[shard])))
            if self._shard(connection.user) == shard:
                connection.private = ReadRange.of(offsets[shard])

    def _shard(self, name: str) -> int:
        return shard_of(name, len(self._hub.offsets))

    def _read_range(self, name: str, joined: int, since: Position | None) -> ReadRange:
        """Return from where a channel, or a user's private messages, may be read that were joined at this number."""
        if since is None:
            return ReadRange.of(joined)
        return ReadRange.of(joined, since.offset_in(self._engine.position.epochs, self._shard(name)))

    # -- streams come and go

    def record_ending(self, connection: Connection, code: int | None, reason: str, *, final: bool) -> None:
        """Remember why a connection, or one stream of it, has ended."""
        self.endings.note(Ending(self._clock.wall(), connection.id, connection.user, code, reason, final))
        if self.observer is not None:
            self.observer.ended(connection, code, reason)

    def detached(self, connection: Connection, grace_s: float) -> None:
        """Note that the connection's stream is gone; it may come back for so many seconds."""
        deadline_s = self._clock.steady() + grace_s
        self._hub.detach(connection, deadline_s)
        self._deadlines.set(connection, deadline_s)
        if self.observer is not None:
            self.observer.detached(connection, grace_s)

    def hold(self, connection: Connection, seconds: float) -> None:
        """Keep a connection without a stream for so many seconds from now, unless it is kept longer."""
        if connection.state is ConnectionState.DETACHED:
            self._expire_after(connection, seconds)

    def attached(self, connection: Connection) -> None:
        """Note that the connection has a stream, so nothing expires it."""
        self._deadlines.drop(connection)
        if self.observer is not None:
            self.observer.attached(connection)

    def _expire_after(self, connection: Connection, seconds: float) -> None:
        connection.deadline_s = max(connection.deadline_s or 0.0, self._clock.steady() + seconds)
        self._deadlines.set(connection, connection.deadline_s)

    def _is_overdue(self, connection: Connection) -> bool:
        # As exact as the table that it has been taken out of.
        return connection.deadline_s is not None and connection.deadline_s <= self._clock.steady() + SLOT_S

    async def sweep(self) -> None:
        """Close what is overdue: never attached, or detached for longer than its grace. It takes the turns itself."""
        slices = Slices(self._clock.steady)
        waiting: list[asyncio.Task[None]] = []
        while (connection := self._deadlines.due(self._clock.steady())) is not None:
            later = self.end_soon(connection, CloseCode.UNKNOWN_CONNECTION, "expired", self._is_overdue)
            waiting += [] if later is None else [later]
            await slices.due()
        await asyncio.gather(*waiting)
        await self._disconnects.drained()

    def end_soon(
        self,
        connection: Connection,
        code: CloseCode,
        reason: str,
        is_due: Callable[[Connection], bool] = lambda _: True,
    ) -> asyncio.Task[None] | None:
        """End a connection of this node, together with others that leave now; it takes the turn itself.

        Here it is gone at once, unless something about it is under way: then the task that is returned ends it after that.

        Args:
            is_due: asked again when its turn has come: it may have come back meanwhile.
        """
        lock = self.locks.try_acquire(connection.id)
        if lock is not None:
            self._leave(connection, lock, code, reason)
            return None
        task = asyncio.get_running_loop().create_task(self._end_later(connection, code, reason, is_due))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        return task

    async def _end_later(
        self, connection: Connection, code: CloseCode, reason: str, is_due: Callable[[Connection], bool]
    ) -> None:
        lock = self.locks.of(connection.id)
        await lock.acquire()
        if is_due(connection):
            self._leave(connection, lock, code, reason)
        else:
            lock.release()

    def _leave(self, connection: Connection, lock: Lock, code: CloseCode, reason: str) -> None:
        """Hold a connection no longer, and its turn until the engine has counted it out."""
        if connection.state is ConnectionState.CLOSED:
            lock.release()
            return
        try:
            channels = self.forget(connection, code, reason)
        except BaseException:
            lock.release()
            raise
        self._disconnects.add(Leaving(_member(connection), channels), lock)


def parse_since(text: str) -> Position | None:
    """Return what a call has named as a position: None if nothing, `UNKNOWN_POSITION` for what is none."""
    return (Position.parse(text) or UNKNOWN_POSITION) if text else None


def _member(connection: Connection) -> Member:
    return Member(connection.id, connection.user, connection.dialect)


def _answer(connection: Connection, changed: Iterable[str]) -> Answer:
    return Answer(held=True, channels=sorted(connection.channels), changed=sorted(changed))


def _check_local(connection: Connection) -> None:
    """Raise Moved if the connection has left this node while the engine was asked."""
    if connection.state is ConnectionState.CLOSED:
        raise Moved
