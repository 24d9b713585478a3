"""The use cases of one server process: what the API and the transports ask for, done with hub and engine."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from channelstream.core.connection import Connection, ConnectionState, Step
from channelstream.core.endings import Ending, Endings
from channelstream.core.events import Dialect, Event
from channelstream.core.hub import Hub
from channelstream.engines.base import Accepted, Clock, Engine, Member, UserChange, UserUpdate
from channelstream.errors import CloseCode, Invalid, Unavailable


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
class Opened:
    """What `connect` made or found."""

    connection: Connection
    change: UserChange


class Node:
    """One process's part of the service.

    Attributes:
        published: messages accepted here since the start.
        stalls: how often a client was too slow to be written to, since the start.
        endings: the streams and connections that ended lately, and why.
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
        self.draining = False
        self._deadlines: dict[Connection, None] = {}

    async def start(self) -> None:
        """Begin to hear the engine, from where its log stands.

        Raises:
            ConfigError: the engine cannot be used as it is configured.
        """
        await self.engine.start(self.hub)
        self.hub.seq = self.engine.position.seq

    # -- connections

    def connection(self, conn_id: str) -> Connection | None:
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
            Unavailable: the server holds as many connections as it may.
        """
        known = self.connection(conn_id) if conn_id else None
        if known is not None:
            return await self._reconnect(known, user, channels, update)
        if self.draining or len(self.hub.connections) >= self.limits.connections:
            raise Unavailable("The server takes no more connections now; try again later.")
        self._check_channel_count(len(channels))
        deadline_s = self.clock.steady() + self.limits.unattached_s
        connection = Connection(conn_id or self.new_id(), user, dialect, self.hub.seq, deadline_s)
        change = await self.engine.connect(_member(connection), update)
        self.hub.add(connection)
        self._deadlines[connection] = None
        await self._join(connection, channels)
        return Opened(connection, change)

    async def _reconnect(
        self, known: Connection, user: str, channels: Mapping[str, Mapping[str, Any]], update: UserUpdate
    ) -> Opened:
        if known.user != user:
            raise Invalid({"conn_id": ["This connection belongs to another user."]})
        new = self._new_channels(known, channels)
        change = await self.engine.update_user(user, update)
        if change is None:
            raise Unavailable("The user of this connection is gone; connect again.")
        await self._join(known, new)
        if known.stream is None:
            self._expire_after(known, self.limits.unattached_s)
        return Opened(known, change)

    async def subscribe(self, connection: Connection, channels: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """Join the channels the connection is not in and return their names.

        Raises:
            Invalid: it would have too many channels.
        """
        new = self._new_channels(connection, channels)
        await self._join(connection, new)
        return list(new)

    def _new_channels(
        self, connection: Connection, channels: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, Mapping[str, Any]]:
        new = {name: patch for name, patch in channels.items() if name not in connection.channels}
        self._check_channel_count(len(connection.channels) + len(new))
        return new

    async def _join(self, connection: Connection, channels: Mapping[str, Mapping[str, Any]]) -> None:
        # Into the hub first: with a shared engine, what is published while it answers must find the member here.
        for name in channels:
            self.hub.subscribe(connection, name, self.hub.seq)
        await self.engine.join(_member(connection), channels)

    def _check_channel_count(self, count: int) -> None:
        limit = self.limits.channels_per_connection
        if count > limit:
            raise Invalid({"channels": [f"A connection may have at most {limit} channels."]})

    async def unsubscribe(self, connection: Connection, channels: Sequence[str]) -> list[str]:
        """Leave those of the channels the connection is in and return their names."""
        left = [name for name in channels if name in connection.channels]
        for name in left:
            self.hub.unsubscribe(connection, name)
        await self.engine.leave(_member(connection), left)
        return left

    async def disconnect(self, connection: Connection, code: CloseCode, reason: str) -> None:
        """End a connection at once: its stream closed, its user parted, its id unknown."""
        if connection.state is ConnectionState.CLOSED:
            return
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
        await self.engine.disconnect(_member(connection), channels)

    # -- streams come and go

    def note_ending(self, connection: Connection, code: int | None, reason: str, *, final: bool) -> None:
        """Remember why a connection, or one stream of it, has ended."""
        self.endings.note(Ending(self.clock.wall(), connection.id, connection.user, code, reason, final))

    def detached(self, connection: Connection, grace_s: float) -> None:
        """Note that the connection's stream is gone; it may come back for so many seconds."""
        self.hub.detach(connection, self.clock.steady() + grace_s)
        self._deadlines[connection] = None

    def attached(self, connection: Connection) -> None:
        """Note that the connection has a stream, so nothing expires it."""
        self._deadlines.pop(connection, None)

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
        return accepted


def _member(connection: Connection) -> Member:
    return Member(connection.id, connection.user, connection.dialect)
