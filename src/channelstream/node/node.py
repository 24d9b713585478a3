"""The use cases of one server process: what the API and the transports ask for, done with hub and engine."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar
from weakref import WeakValueDictionary

from channelstream.core.connection import Connection, ConnectionState, Step
from channelstream.core.endings import Ending, Endings
from channelstream.core.events import Dialect, Event
from channelstream.core.hub import Hub
from channelstream.core.position import Numbers, later, replaced, shard_of
from channelstream.core.user import User
from channelstream.engines.base import Accepted, Clock, Engine, Member, UserChange, UserUpdate
from channelstream.errors import CloseCode, Invalid, Moved, Replaced, Unavailable
from channelstream.node.commands import (
    Again,
    Answer,
    Command,
    End,
    Subscribe,
    Unsubscribe,
    Yield,
    encode,
    read_answer,
    read_command,
)
from channelstream.node.observer import Observer

HANDOVER_PAUSES_S = (0.0, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
"""How long to wait, time after time, for a connection that is between two nodes."""


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


@dataclass(frozen=True, slots=True)
class Subscribed:
    """The channels of a connection after a change: all of them, and those that changed, sorted."""

    channels: list[str]
    changed: list[str]


@dataclass(frozen=True, slots=True)
class Opened:
    """A connection that `connect` made or found, with all its channels, sorted."""

    conn_id: str
    user: User
    channels: list[str]


class Node:
    """One process's part of the service, and the receiver of its engine.

    Attributes:
        published: messages accepted here since the start.
        stalls: how often a client was too slow to be written to, since the start.
        endings: the streams and connections that ended lately, and why.
        observer: None unless somebody traces.
    """

    def __init__(
        self, engine: Engine, hub: Hub, clock: Clock, new_id: Callable[[], str], limits: NodeLimits
    ) -> None:
        self.engine = engine
        self.hub = hub
        self.clock = clock
        self.new_id = new_id
        self.limits = limits
        self.published = 0
        self.stalls = 0
        self.endings = Endings()
        self.observer: Observer | None = None
        self.draining = False
        self.deliver = hub.deliver
        self._deadlines: dict[Connection, None] = {}
        self._handovers: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._claiming: set[str] = set()
        self._overtaken: set[str] = set()

    async def start(self) -> None:
        """Begin to hear the engine, from where its log stands.

        Raises:
            ConfigError: the engine cannot work with what it was given.
        """
        await self.engine.start(self)
        self.hub.seqs = self.engine.position.seqs

    # -- connections

    def connection(self, conn_id: str) -> Connection | None:
        """Return a connection this node holds."""
        return self.hub.connections.get(conn_id)

    async def connect(
        self,
        conn_id: str | None,
        user: str,
        dialect: Dialect,
        channels: Mapping[str, Mapping[str, Any]],
        update: UserUpdate,
    ) -> Opened:
        """Register a connection, or add channels to the one that has this id.

        Args:
            conn_id: its normal form; None lets the server choose one.
            channels: channels to join, each with the settings it gets if it is new.

        Raises:
            Invalid: the id is another user's, or it would have too many channels.
            Unavailable: the server holds as many connections as it may, or the engine is out of reach.
        """
        if conn_id and (known := await self._reconnect(conn_id, user, channels, update)):
            return known
        if self.draining or len(self.hub.connections) >= self.limits.connections:
            raise Unavailable("The server takes no more connections now; try again later.")
        self._check_channel_count(len(channels))
        connection = self._new_connection(conn_id or self.new_id(), user, dialect)
        change = await self._register(connection, update)
        if change is None:
            known = await self._reconnect(connection.id, user, channels, update)
            if known is None:
                raise Unavailable("This connection was made a moment ago; try again.")
            return known
        connection.heard = change.seqs
        await self._join(connection, channels)
        return Opened(connection.id, change.user, sorted(connection.channels))

    def _new_connection(self, conn_id: str, user: str, dialect: Dialect) -> Connection:
        deadline_s = self.clock.steady() + self.limits.unattached_s
        connection = Connection(conn_id, user, dialect, self.hub.seqs, deadline_s)
        self.hub.add(connection)
        self._deadlines[connection] = None
        return connection

    async def _register(self, connection: Connection, update: UserUpdate) -> UserChange | None:
        """Make a new connection known to the engine; where that fails it is gone."""
        change = None
        try:
            change = await self.engine.connect(_member(connection), update)
        finally:
            if change is None:
                self._forget(connection, CloseCode.UNKNOWN_CONNECTION, "it could not be registered")
        return change

    async def _reconnect(
        self, conn_id: str, user: str, channels: Mapping[str, Mapping[str, Any]], update: UserUpdate
    ) -> Opened | None:
        asked = Subscribe(conn_id, _patches(channels), Again(user, update))
        done = await self._obeyed(asked)
        if done is None:
            return None
        users = await self.engine.users([user])
        if not users:
            raise Unavailable("The user of this connection is gone; connect again.")
        return Opened(conn_id, users[0], done.channels)

    async def subscribe(self, conn_id: str, channels: Mapping[str, Mapping[str, Any]]) -> Subscribed | None:
        """Join the channels the connection is not in; None if it is unknown.

        Raises:
            Invalid: it would have too many channels.
        """
        return _subscribed(await self._obeyed(Subscribe(conn_id, _patches(channels))))

    async def unsubscribe(self, conn_id: str, channels: Sequence[str]) -> Subscribed | None:
        """Leave those of the channels the connection is in; None if it is unknown."""
        return _subscribed(await self._obeyed(Unsubscribe(conn_id, list(channels))))

    async def end(self, conn_id: str, code: CloseCode, reason: str) -> bool:
        """End a connection wherever it is; False if it is unknown."""
        return await self._obeyed(End(conn_id, code, reason)) is not None

    async def _join(self, connection: Connection, channels: Mapping[str, Mapping[str, Any]]) -> None:
        # Into the hub first: with a shared engine, what is published while it answers must find the member here.
        for name in channels:
            self.hub.subscribe(connection, name, self.hub.seqs[self._shard(name)])
        joined = None
        connection.joining |= channels.keys()
        try:
            joined = await self.engine.join(_member(connection), channels)
        finally:
            connection.joining -= channels.keys()
            for name in set(channels) & connection.channels.keys():
                if joined is None:
                    self.hub.unsubscribe(connection, name)
                else:
                    connection.channels[name] = joined[name]

    def _check_channel_count(self, count: int) -> None:
        limit = self.limits.channels_per_connection
        if count > limit:
            raise Invalid({"channels": [f"A connection may have at most {limit} channels."]})

    async def disconnect(self, connection: Connection, code: CloseCode, reason: str) -> None:
        """End a connection of this node at once: its stream closed, its user parted, its id unknown."""
        if connection.state is not ConnectionState.CLOSED:
            channels = self._forget(connection, code, reason)
            with suppress(Moved):
                await self.engine.disconnect(_member(connection), channels)

    def _forget(self, connection: Connection, code: CloseCode, reason: str) -> list[str]:
        """Hold a connection no longer and return the channels it had; the engine is not told."""
        self.hub.mute(connection)
        connection.move(Step.CLOSE)
        self._deadlines.pop(connection, None)
        self.note_ending(connection, code, reason, final=True)
        stream, connection.stream = connection.stream, None
        channels = list(connection.channels)
        for name in channels:
            self.hub.unsubscribe(connection, name)
        self.hub.remove(connection)
        if stream is not None:
            stream.close(code, reason)
        return channels

    async def members(self, channel: str) -> list[tuple[str, str]]:
        """Return the channel's connections on all nodes, each with its user."""
        here = {connection.id: connection.user for connection in self.hub.channels.get(channel, ())}
        there = {member.conn_id: member.user for member in await self.engine.members(channel)}
        return sorted((there | here).items())

    # -- what other nodes hold

    async def adopt(self, conn_id: str) -> Connection | None:
        """Hold the connection here, wherever it was until now; None if it is unknown.

        Raises:
            Unavailable: the engine is out of reach.
        """
        if self.connection(conn_id) and not self.engine.is_sure(conn_id):
            await self.engine.make_sure(conn_id)
        if (here := self.connection(conn_id)) or not self.engine.shared:
            return here
        lock = self._handovers.setdefault(conn_id, asyncio.Lock())
        async with lock:
            return self.connection(conn_id) or await self._fetch(conn_id)

    async def _fetch(self, conn_id: str) -> Connection | None:
        yielded = None
        with suppress(Unavailable):  # A node that does not answer loses the connection all the same.
            yielded = await self._asked_again_while_moving(Yield(conn_id))
        return await self._take_over(conn_id, yielded, orphan=False)

    async def _take_over(self, conn_id: str, yielded: Answer | None, orphan: bool) -> Connection | None:
        """Claim a connection and hold it here; None if it is unknown.

        Args:
            yielded: what the node that held it has told.
            orphan: only if that node has died.

        Raises:
            Moved: it is held by a living node, and only an orphan was wanted.
            Replaced: while it was claimed, yet another node has claimed it.
        """
        self._claiming.add(conn_id)
        try:
            claim = await self.engine.claim(conn_id, orphan)
            if conn_id in self._overtaken:
                raise Replaced("replaced by a stream at another node")
        finally:
            self._claiming.discard(conn_id)
            self._overtaken.discard(conn_id)
        here = self.connection(conn_id)
        if claim is None or here is not None:
            return here
        connection = self._new_connection(conn_id, claim.member.user, claim.member.dialect)
        connection.heard = yielded.heard if yielded else claim.seqs
        for name, joined in claim.channels.items():
            self.hub.subscribe(connection, name, joined)
        if yielded:
            await self._join(
                connection, {name: {} for name in yielded.channels if name not in claim.channels}
            )
        elif not claim.is_whole:
            await self.disconnect(
                connection, CloseCode.UNKNOWN_CONNECTION, "its channels are not known any more"
            )
            return None
        return connection

    async def _obeyed(self, command: Command) -> Answer | None:
        """Have a command done wherever its connection is; None if there is none of that id."""
        for pause_s in HANDOVER_PAUSES_S:
            answer = await self._done(command)
            if answer is None or answer.held:
                return answer
            await asyncio.sleep(pause_s)
        raise Moved

    async def _done(self, command: Command) -> Answer | None:
        """Have a command done by the node that seems to hold its connection; the answer says whether it does."""
        connection = self.connection(command.conn_id)
        if connection is None and self.engine.shared:
            answer = read_answer(await self.engine.ask(command.conn_id, encode(command)))
            if answer is not None:
                return answer
            # Its node has died: whoever needs the connection takes it over.
            async with self._handovers.setdefault(command.conn_id, asyncio.Lock()):
                try:
                    connection = self.connection(command.conn_id) or await self._take_over(
                        command.conn_id, None, orphan=True
                    )
                except (Moved, Replaced):
                    return Answer(held=False)
        return None if connection is None else await self._do_here(connection, command)

    async def _do_here(self, connection: Connection, command: Command) -> Answer:
        try:
            return await self._do[type(command)](self, connection, command)
        except Moved:
            return Answer(held=False)

    async def _asked_again_while_moving(self, command: Command) -> Answer | None:
        for pause_s in HANDOVER_PAUSES_S:
            answer = read_answer(await self.engine.ask(command.conn_id, encode(command)))
            if answer is None or answer.held:
                return answer
            await asyncio.sleep(pause_s)
        return None

    async def obey(self, command: bytes) -> bytes:
        """Do what another node asks, if the connection is held here."""
        asked = read_command(command)
        connection = self.connection(asked.conn_id)
        if connection is None:
            return encode(Answer(held=False))
        try:
            return encode(await self._do_here(connection, asked))
        except Invalid as error:
            return encode(Answer(held=True, faults=error.faults))

    async def _do_subscribe(self, connection: Connection, asked: Subscribe) -> Answer:
        if asked.again is not None and asked.again.user != connection.user:
            raise Invalid({"conn_id": ["This connection belongs to another user."]})
        new = {name: patch for name, patch in asked.channels.items() if name not in connection.channels}
        self._check_channel_count(len(connection.channels) + len(new))
        if asked.again is not None:
            await self.engine.update_user(connection.user, asked.again.update)
            _still_here(connection)
        await self._join(connection, new)
        _still_here(connection)
        if asked.again is not None and connection.stream is None:
            self._expire_after(connection, self.limits.unattached_s)
        return _answer(connection, new)

    async def _do_unsubscribe(self, connection: Connection, asked: Unsubscribe) -> Answer:
        left = {
            name: joined for name in asked.channels if (joined := connection.channels.get(name)) is not None
        }
        for name in left:
            self.hub.unsubscribe(connection, name)
        try:
            await self.engine.leave(_member(connection), list(left))
        except Unavailable:
            if connection.state is not ConnectionState.CLOSED:
                for name, joined in left.items():
                    self.hub.subscribe(connection, name, joined)
            raise
        _still_here(connection)
        return _answer(connection, left)

    async def _do_end(self, connection: Connection, asked: End) -> Answer:
        if connection.state is not ConnectionState.CLOSED:
            channels = self._forget(connection, CloseCode(asked.code), asked.reason)
            await self.engine.disconnect(_member(connection), channels)
        return _answer(connection, ())

    async def _do_yield(self, connection: Connection, asked: Yield) -> Answer:
        channels = self._forget(connection, CloseCode.REPLACED, "replaced by a stream at another node")
        return Answer(held=True, channels=sorted(channels), heard=connection.heard)

    _do: ClassVar[dict[type[Any], Callable[..., Awaitable[Answer]]]] = {
        Subscribe: _do_subscribe,
        Unsubscribe: _do_unsubscribe,
        End: _do_end,
        Yield: _do_yield,
    }

    # -- what the engine tells

    def advance(self, seqs: Numbers) -> None:
        self.hub.seqs = later(self.hub.seqs, seqs)

    def _shard(self, name: str) -> int:
        return shard_of(name, len(self.hub.seqs))

    def lost(self, channels: Collection[str], users: Collection[str]) -> None:
        """Close the streams whose connections missed something: with `since` they are told what is lost."""
        missed: dict[Connection, None] = {}
        for name in channels:
            missed |= self.hub.channels.get(name, {})
        for name in users:
            missed |= self.hub.users.get(name, {})
        for connection in missed:
            if connection.stream is not None:
                connection.stream.close(CloseCode.TOO_SLOW, "the log no longer reaches back")

    def renewed(self, shard: int, seqs: Numbers) -> None:
        """Close the streams that hear this shard: who comes back with a position of the older log is told of the loss."""
        self.hub.seqs = seqs
        for connection in list(self.hub.connections.values()):
            mine = [name for name in connection.channels if self._shard(name) == shard]
            if connection.stream is not None and (mine or self._shard(connection.user) == shard):
                connection.stream.close(CloseCode.RESTARTING, "the log was lost")
            connection.heard = replaced(connection.heard, shard, seqs[shard])
            connection.channels.update(dict.fromkeys(mine, seqs[shard]))

    def yielded(self, conn_id: str) -> None:
        connection = self.connection(conn_id)
        if connection is not None:
            self._forget(connection, CloseCode.REPLACED, "replaced by a stream at another node")
        elif conn_id in self._claiming:
            self._overtaken.add(conn_id)

    def held(self) -> Collection[str]:
        return self.hub.connections.keys()

    def has_channel(self, name: str) -> bool:
        return name in self.hub.channels

    def has_user(self, name: str) -> bool:
        return name in self.hub.users

    def membership(self, conn_id: str) -> tuple[Member, Sequence[str]] | None:
        connection = self.connection(conn_id)
        return None if connection is None else (_member(connection), list(connection.channels))

    # -- streams come and go

    def note_ending(self, connection: Connection, code: int | None, reason: str, *, final: bool) -> None:
        """Remember why a connection, or one stream of it, has ended."""
        self.endings.note(Ending(self.clock.wall(), connection.id, connection.user, code, reason, final))
        if self.observer is not None:
            self.observer.ended(connection, code, reason)

    def detached(self, connection: Connection, grace_s: float) -> None:
        """Note that the connection's stream is gone; it may come back for so many seconds."""
        self.hub.detach(connection, self.clock.steady() + grace_s)
        self._deadlines[connection] = None
        if self.observer is not None:
            self.observer.detached(connection, grace_s)

    def attached(self, connection: Connection) -> None:
        """Note that the connection has a stream, so nothing expires it."""
        self._deadlines.pop(connection, None)
        if self.observer is not None:
            self.observer.attached(connection)

    def _expire_after(self, connection: Connection, seconds: float) -> None:
        connection.deadline_s = max(connection.deadline_s or 0.0, self.clock.steady() + seconds)
        self._deadlines[connection] = None

    def overdue(self) -> list[Connection]:
        """Return the connections whose deadline has passed."""
        now_s = self.clock.steady()
        return [c for c in self._deadlines if c.deadline_s is not None and c.deadline_s <= now_s]

    async def sweep(self) -> None:
        """Close what is overdue: never attached, or detached for longer than its grace."""
        for connection in self.overdue():
            if connection.stream is not None:
                continue  # It came back while another one was ended.
            await self.disconnect(connection, CloseCode.UNKNOWN_CONNECTION, "expired")

    # -- messages and state

    async def publish(self, events: Sequence[Event]) -> list[Accepted]:
        """Accept events in this order; when this returns they are on their way to everyone."""
        accepted = await self.engine.publish(events)
        self.published += sum(not each.repeated for each in accepted)
        if self.observer is not None:
            for each in accepted:
                if each.repeated:
                    self.observer.repeated(each.event)
        return accepted


def _patches(channels: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name: dict(patch) for name, patch in channels.items()}


def _answer(connection: Connection, changed: Iterable[str]) -> Answer:
    return Answer(held=True, channels=sorted(connection.channels), changed=sorted(changed))


def _subscribed(answer: Answer | None) -> Subscribed | None:
    return None if answer is None else Subscribed(answer.channels, answer.changed)


def _member(connection: Connection) -> Member:
    return Member(connection.id, connection.user, connection.dialect)


def _still_here(connection: Connection) -> None:
    """Raise Moved if the connection has left this node while the engine was asked."""
    if connection.state is ConnectionState.CLOSED:
        raise Moved
