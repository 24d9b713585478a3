"""One server process: what services and streams ask of it, over the hub and the engine, and what the engine calls.

All names here are keys (`apps.keys`): a node does not know applications.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from channelstream.apps.wanted_facts import NOTHING_WANTED, WantedFacts
from channelstream.close_codes import CloseCode
from channelstream.core.accepted import Accepted
from channelstream.core.client_protocol import ClientProtocol
from channelstream.core.connection import Connection
from channelstream.core.entry import Entry
from channelstream.core.events import Message, MessageDeleted, MessageEdited
from channelstream.core.frequent import Frequent
from channelstream.core.hub import Hub
from channelstream.core.log import Replay
from channelstream.core.node_status import NodeStatus
from channelstream.core.position import Position, draw_in_shard
from channelstream.core.shedding import Shedding, Work
from channelstream.core.user import User, UserChange, UserUpdate
from channelstream.engines.base import Clock, DirectoryReads, Engine
from channelstream.engines.members import Member
from channelstream.engines.outbox import Outbox
from channelstream.engines.time_series import TimeSeries
from channelstream.errors import Unavailable
from channelstream.service.channel_ends import ChannelEnds
from channelstream.service.cluster_calls import ClusterCalls
from channelstream.service.commands import Answer, End, Subscribe, Unsubscribe
from channelstream.service.connecting import Channels, Connecting, Opened
from channelstream.service.executing import Executing
from channelstream.service.first_reads import read_first
from channelstream.service.handover import Handover
from channelstream.service.limits import NodeLimits
from channelstream.service.local import LocalConnections
from channelstream.service.member_states import MemberStates
from channelstream.service.node_move import NodeMove
from channelstream.service.publishing import Publishing
from channelstream.service.remote_calls import RemoteCalls
from channelstream.service.reports import Reports
from channelstream.service.revocations import Revocations
from channelstream.service.seats import Seats
from channelstream.service.signals import Signals
from channelstream.service.stream_reads import StreamReads
from channelstream.slices import in_turns

MEMBERS_SLICE = 1000
"""Members of a channel that are copied in one loop turn."""


class Node:
    """One process's part of the service, and the receiver of its log.

    Attributes:
        is_single: whether no other node shares its log.
        directory: what is known of users and channels, on all nodes.
        connects_at_once: whether `connect_at_once` registers any connection.
        signals: what this node announces, for traces and other consumers.
        published: messages accepted here since the start.
        busiest: channels by the messages accepted here lately; who reads it begins it again.
        stalls: how often a client was too slow to be written to, since the start.
        shedding: whether it refuses new work because of its load.
        remote_calls: calls of other nodes, about a node.
        revocations: clients' tokens that are refused before they expire.
        local: the connections of this node.
        seats: takes seats for them.
        channel_ends: ends connections by their channel.
        member_states: who is in a channel.
        reads: what streams read of the log.
        reports: what webhooks report of what happens here, besides who joins and leaves.
        move: its move to another process, or from one.
    """

    def __init__(
        self,
        engine: Engine,
        hub: Hub,
        clock: Clock,
        new_id: Callable[[], str],
        limits: NodeLimits,
        wanted: WantedFacts = NOTHING_WANTED,
    ) -> None:
        """Create a node whose engine has not started.

        Args:
            wanted: the facts that webhooks report, of those that a node makes itself.
        """
        self._engine = engine
        self._cluster = engine.cluster
        self.directory: DirectoryReads = engine
        self.reports = Reports(engine.outbox, wanted, new_id, clock)
        self.is_single = engine.cluster.is_single
        self.connects_at_once = engine.connects_at_once
        self.hub = hub
        self.clock = clock
        self.new_id = new_id
        self.limits = limits
        self.published = 0
        self.busiest: Frequent[str] = Frequent()
        self.stalls = 0
        self.draining = False
        self.shedding = Shedding()
        self.signals = Signals(self._set_deliver)
        self.deliver = hub.deliver
        self.local = LocalConnections(engine, engine, hub, clock, limits, self.signals)
        self._handover = Handover(engine.cluster, self.local, Executing(engine, self.local, limits))
        self.remote_calls = RemoteCalls(engine.cluster)
        self.revocations = Revocations(
            self.remote_calls,
            engine.time_series,
            hub,
            clock,
            self.local.departures.end_soon,
            is_single=self.is_single,
            owners=tuple(limits.apps) or ("",),
        )
        self.signals.log_replaced.connect(self.revocations.log_replaced)
        self.seats = Seats(hub, self.local, limits)
        self.channel_ends = ChannelEnds(self.remote_calls, hub, self.local.departures.end_soon)
        self._connecting = Connecting(engine, hub, self.local, self._handover, self._check_room)
        self._publishing = Publishing(engine, hub)
        self.move = NodeMove(
            engine, lambda: engine.position.epochs, hub, self.local, clock, self._continue_engine
        )
        self.member_states = MemberStates(engine, is_single=self.is_single)
        self.reads = StreamReads(engine, self.is_single)

    async def start(self) -> None:
        """Start the engine, restore its connections, and receive its events from the current end of its log on.

        Raises:
            ConfigError: the engine cannot be used as it is configured.
        """
        await self._start_engine()
        await self.local.restored.hold(await self._engine.restored_connections())
        await self.local.restored.expect_streams()

    async def _start_engine(self) -> None:
        """Receive the events of the engine from now on, and answer its cluster."""
        self._cluster.serve(ClusterCalls(self.hub, self._handover, self.remote_calls, self.signals))
        await self._engine.start(self)
        self.hub.offsets = self._engine.position.offsets

    async def _continue_engine(self) -> None:
        """Start the engine in place of another process, which goes on if this one cannot read it."""
        await self._start_engine()
        await read_first(self._engine, self.hub)

    async def close(self) -> None:
        """Stop the engine; everything that was acknowledged is as durable as the engine promises."""
        await self._engine.close()

    @property
    def engine_name(self) -> str:
        """The name of the engine in the configuration."""
        return self._engine.name

    @property
    def can_engine_fail(self) -> bool:
        """Whether a call of the engine may fail (`Engine.can_fail`)."""
        return self._engine.can_fail

    @property
    def is_engine_reachable(self) -> bool:
        """Whether the engine can be called now (`Engine.is_reachable`)."""
        return self._engine.is_reachable

    @property
    def time_series(self) -> TimeSeries:
        """Records by time, which outlive the process if the engine does."""
        return self._engine.time_series

    @property
    def outbox(self) -> Outbox:
        """The facts that webhooks have not sent yet."""
        return self._engine.outbox

    @property
    def log_bytes(self) -> int | None:
        """The bytes of all logs; None if a service keeps them (`Engine.log_bytes`)."""
        return self._engine.log_bytes

    @property
    def unready_reason(self) -> str:
        """Why no new clients should be sent to this node, in a word; empty if they should."""
        if self.draining:
            return "draining"
        # All nodes lack a shard that is out of reach: without this one, its load balancer would have none for the others.
        if not self._engine.is_partly_reachable:
            return "engine"
        return "overloaded" if self.shedding.reason else ""

    # -- connections, wherever they are

    def draw_id(self, user: str, new_id: Callable[[], str]) -> str:
        """Return an id for a connection of a user that the server chooses, as `new_id` draws them."""
        return draw_in_shard(new_id, user, len(self.hub.offsets))

    async def connect(
        self,
        conn_id: str,
        user: str,
        protocol: ClientProtocol,
        channels: Channels,
        update: UserUpdate,
        since: str = "",
        *,
        is_drawn: bool = False,
    ) -> Opened:
        """Register a connection, or add channels to the one that has this id.

        Args:
            conn_id: its normal form.
            channels: channels to join, each with the settings it gets if it is new.
            since: the position from which it may read the channels it joins, and its private messages if it is new;
                empty: from now on.
            is_drawn: no connection has had the id, so none is looked for.

        Raises:
            Invalid: the id is another user's, or it would have too many channels.
            Unavailable: the server holds as many connections as it may or sheds load, or the engine is out of reach.
        """
        member = Member(conn_id, user, protocol)
        return await self._connecting.connect(member, channels, update, since, is_drawn=is_drawn)

    def connect_at_once(
        self, member: Member, channels: Channels, update: UserUpdate, since: str
    ) -> User | None:
        """Register a connection whose id is new as `connect` does, without a wait, and return its user.

        None if that takes a wait: then nothing has happened.
        """
        return self._connecting.connect_at_once(member, channels, update, since)

    def _check_room(self, conn_id: str, channels: Channels) -> None:
        """Refuse a new connection in these channels if there is no room for it.

        Raises:
            Unavailable: the node takes no new connection now.
            TooManyRequests: its application has as many connections or channels here as it may.
        """
        if self.draining or len(self.hub.connections) >= self.limits.connections:
            raise Unavailable("The server takes no more connections now; try again later.")
        self.shedding.check(Work.CONNECTION)
        self.local.room.check_connection(conn_id, channels)

    async def subscribe(self, conn_id: str, channels: Channels, since: str = "") -> Answer | None:
        """Join the channels that the connection is not in yet; None if it is unknown.

        Args:
            since: the position from which it may read them; empty: from now on.

        Raises:
            Invalid: it would have too many channels.
        """
        return await self._handover.dispatch(Subscribe(conn_id, channels, None, since))

    async def unsubscribe(self, conn_id: str, channels: Sequence[str]) -> Answer | None:
        """Leave those of the channels the connection is in; None if it is unknown."""
        return await self._handover.dispatch(Unsubscribe(conn_id, list(channels)))

    async def end(self, conn_id: str, code: CloseCode, reason: str, recorded: str = "") -> bool:
        """End a connection wherever it is; False if it is unknown.

        Args:
            recorded: what is recorded in place of the reason that the client is sent; empty means the same.
        """
        return await self._handover.dispatch(End(conn_id, code, reason, recorded)) is not None

    async def take_over(self, conn_id: str) -> Connection | None:
        """Return the connection, moved to this node if another one held it; None if it is unknown.

        Raises:
            Unavailable: the engine is out of reach.
            Replaced: a newer stream of it was opened at another node.
        """
        return await self._handover.take_over(conn_id)

    # -- connections of this node

    def connection(self, conn_id: str) -> Connection | None:
        """Return a connection of this node; None if it has none of this id."""
        return self.hub.connections.get(conn_id)

    def may_be_elsewhere(self, conn_id: str) -> bool:
        """Whether another node may own the connection, so that `take_over` is needed."""
        if self.is_single:
            return False
        return self.connection(conn_id) is None or not self._cluster.owns(conn_id)

    async def sweep(self) -> None:
        """End the connections that never had a stream, or have had none for longer than their grace period."""
        await self.local.departures.sweep()

    async def collect(self) -> None:
        """Forget idle users, empty channels and aged entries; called every few seconds."""
        await self._engine.collect()

    # -- calls of the log (`engines.base.Receiver`)

    def _set_deliver(self) -> None:
        """Choose what the engine calls for each entry: the hub itself, unless a signal of deliveries has consumers."""
        has_consumers = self.signals.accepted or self.signals.delivered
        self.deliver = self._announce_and_deliver if has_consumers else self.hub.deliver

    def _announce_and_deliver(self, entry: Entry) -> None:
        hub = self.hub
        self.signals.accepted.emit(entry)
        before = hub.deliveries
        hub.deliver(entry)
        self.signals.delivered.emit(entry, hub.deliveries - before)

    # -- messages and state

    async def publish(self, messages: Sequence[Message]) -> list[Accepted]:
        """Publish messages in this order; when this returns, the engine has accepted them."""
        results = await self._publishing.publish(messages)
        self._count(results)
        return results

    def publish_at_once(self, message: Message) -> Accepted | None:
        """Publish a message without a wait; None if that takes one, and then nothing has happened."""
        accepted = self._engine.publish_at_once(message)
        if accepted is not None:
            self._count((accepted,))
        return accepted

    def _count(self, results: Iterable[Accepted]) -> None:
        """Count and report published messages."""
        for accepted in results:
            event = accepted.event
            if accepted.duplicate:
                self.signals.duplicate.emit(event)
                continue
            self.published += 1
            if event.channel is not None:
                self.busiest[event.channel] += 1
                if self.reports.is_used:
                    self.reports.accepted(event)

    async def change(self, changes: Sequence[MessageEdited | MessageDeleted]) -> list[Accepted]:
        """Publish edits and deletions of messages, as `publish` does; `published` does not grow."""
        return await self._publishing.publish(changes)

    async def update_user(self, name: str, update: UserUpdate) -> UserChange | None:
        """Change the state of a user; return None if the user is unknown."""
        return await self._engine.update_user(name, update)

    async def configure(self, patches: Mapping[str, Mapping[str, Any]]) -> None:
        """Change settings of channels, created if need be; settings that are not named keep their values."""
        await self._engine.configure(patches)

    # -- reads

    @property
    def position(self) -> Position:
        """The position up to which this node was delivered everything."""
        return self._engine.position

    def head(self, names: Iterable[str] | None = None, all_shards: bool = False) -> Awaitable[Position]:
        """Return the position after the last accepted events (`EventLog.head`)."""
        return self._engine.head(names, all_shards)

    async def replay(self, user: str, from_offsets: Mapping[str, int], limit: int) -> Replay:
        """Read the events after given offsets (`EventLog.replay`); streams use `reads`."""
        return await self._engine.replay(user, from_offsets, limit)

    async def catch_up(self, shards: Iterable[int]) -> None:
        """Return when this node was delivered every event that these shards have accepted up to this call."""
        await self._engine.catch_up(shards)

    async def members(self, channel: str) -> dict[str, str]:
        """Return the user of each of the channel's connections on all nodes, by connection id; copied in slices."""
        local = list(self.hub.channels.get(channel, ()))
        found = await self._cluster.members(channel)
        async for part in in_turns(local, MEMBERS_SLICE):
            members = [connection.member_in(channel) for connection in part]
            found |= {member.id: member.user for member in members}
        return found

    async def use_once(self, text: str, keep_s: float) -> bool:
        """Use a text at this node; return False if another one has (`Cluster.use_once`)."""
        return await self._cluster.use_once(text, keep_s)

    @property
    def remembered_seconds(self) -> float:
        """See `Cluster.remembered_seconds`."""
        return self._cluster.remembered_seconds

    async def nodes(self) -> list[NodeStatus]:
        """Return all nodes that share the log; none if the log belongs to this process alone."""
        return await self._cluster.nodes()
