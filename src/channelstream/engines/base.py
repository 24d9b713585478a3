"""The engine port: the methods the node calls, and the callbacks by which an engine delivers events to the node.

An engine accepts events, assigns each an offset in its shard of the log (most engines have one shard), keeps the logs
that clients resume from, and delivers every accepted event to the receiver of every node. An engine that several nodes
share also records which node owns each connection, and carries commands between nodes. Every implementation runs
`tests/engines/conformance.py`.

Three invariants hold for every engine. Callers and receivers rely on them and check nothing again:

- **Order and completeness.** Events of one shard arrive in offset order, each once, and `Engine.position` never passes
  an event that concerns this node and is neither delivered nor reported as lost. A client's position is derived from it:
  a position that is too low costs a repeated read, one that is too high skips events for ever. So an engine that is
  not sure reports the lower offset, and one that finds it was too high begins a new epoch (`Receiver.log_replaced`).
- **Ambiguous failure.** `Unavailable` is ambiguous: the operation may have been applied, because an answer can be lost
  after the change was made. Callers repeat with the same uuid (`publish` drops the duplicate), or leave the repair to
  the engine (`join`, `leave`, `disconnect`). Any other error proves that nothing was accepted. To exclude the ambiguity,
  an engine would need a second round trip for each publish.
- **One owner.** At most one node owns a connection. A call for a connection that another node owns raises `Moved` and
  leaves the new owner's registration as it is, so a node that was out of reach, and was declared dead meanwhile, cannot
  undo what the new owner does. `owns` answers from memory, because it is asked for every stream that opens; while it is
  false, the stream waits for `confirm_ownership`.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from channelstream.core.channel import Channel
from channelstream.core.client_protocol import ClientProtocol
from channelstream.core.events import Event
from channelstream.core.log import Accepted, Entry, Replay
from channelstream.core.node_status import NodeStatus
from channelstream.core.position import Offsets, Position, ReadRange
from channelstream.core.registry import Moment
from channelstream.core.user import User, UserChange, UserUpdate

RequestRelease = Callable[[], Awaitable[None]]
"""Asks the owner of a connection to release it; returns when the owner has, or does not answer."""


class Receiver(Protocol):
    """The node as its engine sees it. An engine of one process calls only `deliver`."""

    def deliver(self, entry: Entry) -> None:
        """Deliver an accepted event. Events of one shard arrive in offset order."""

    def advance(self, offsets: Offsets) -> None:
        """Report that every event up to these offsets that concerns this node has been delivered."""

    def lost(self, channels: Collection[str], users: Collection[str]) -> None:
        """Report that events of these channels, and private messages of these users, cannot be delivered any more."""

    def log_replaced(self, shard: int, offsets: Offsets) -> None:
        """Handle the replacement of a shard's log by a new one that begins at `offsets[shard]`.

        Nothing older than that can be proven complete.
        """

    def taken_over(self, conn_id: str) -> None:
        """Report that another node owns a connection from now on."""

    def local_connections(self) -> Collection[str]:
        """Return the ids of the connections of this node."""

    def has_channel(self, name: str) -> bool:
        """Return whether a connection of this node is in the channel."""

    def has_user(self, name: str) -> bool:
        """Return whether the user has a connection at this node."""

    def membership(self, conn_id: str) -> "Membership | None":
        """Return the current channels of a connection, to register it again; None if it has left this node."""

    async def execute(self, command: bytes) -> bytes:
        """Execute a command of another node and return the answer."""


class Clock(Protocol):
    """Time as the engine sees it, in seconds."""

    def wall(self) -> float:
        """Return seconds since 1970, for timestamps."""

    def steady(self) -> float:
        """Return seconds that never jump, for ages and deadlines."""


def moment(clock: Clock) -> Moment:
    """Return the current time of both clocks."""
    return Moment(clock.wall(), clock.steady())


@dataclass(frozen=True, slots=True)
class Member:
    """A connection, as the engine registers it."""

    conn_id: str
    user: str
    protocol: ClientProtocol


@dataclass(frozen=True, slots=True)
class Leaving:
    """A connection to unregister, with the channels it is in."""

    member: Member
    channels: Sequence[str]


@dataclass(frozen=True, slots=True)
class Membership:
    """The channels of a connection, as its owner knows them.

    Attributes:
        channels: each with its read range; None while the connection is joining it.
        private: the read range of its user's private messages; None while it is not known.
    """

    member: Member
    channels: Mapping[str, ReadRange | None]
    private: ReadRange | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """A connection that this node owns from now on.

    Attributes:
        channels: its channels, each with its read range.
        private: the read range of its user's private messages; None where their shard has no registration of it.
        offsets: it has missed no event up to these offsets. It may have been sent later ones.
        is_whole: false where a shard has lost its registration, so that channels may be missing here.
    """

    member: Member
    channels: Mapping[str, ReadRange]
    private: ReadRange | None
    offsets: Offsets
    is_whole: bool


class Engine(Protocol):
    """The port. Methods that change something are atomic: all of it is accepted, or an error is raised and nothing is.

    A method that needs a service raises `Unavailable` when the service is out of reach, and no other error of that
    service. `Unavailable` is ambiguous (see above); a method over several shards may have been applied in some of them.
    """

    name: str
    """Its name in the configuration and in `/info`."""
    shared: bool
    """Whether several nodes can use it at once. Otherwise `ask` and `claim` know no connection."""

    @property
    def position(self) -> Position:
        """The offsets up to which this node was delivered everything, in the current epochs, one for each shard."""

    async def head(self, names: Iterable[str] | None = None, all_shards: bool = False) -> Position:
        """Return the position after the last events that were accepted on any node.

        Args:
            names: the channels and users it is needed for; None means all shards. For a shard with none of them the
                offset is the one in `position`, which may be lower than the last offset and is never higher.
            all_shards: ask those shards as well; one that is out of reach falls back to `position`.
        """

    async def start(self, receiver: Receiver) -> None:
        """Deliver accepted events to `receiver` from now on, beginning after `position`.

        Raises:
            ConfigError: the engine cannot be used as it is configured.
        """

    async def close(self) -> None:
        """Stop; everything that was acknowledged is as durable as this engine promises."""

    async def publish(self, events: Sequence[Event]) -> list[Accepted]:
        """Accept events in this order, except duplicates.

        A duplicate is a message whose uuid, or whose deletion, the log has for every recipient, or an edit of a deleted
        message. Once an event is accepted, what it supersedes is neither kept nor replayed (`core.compaction`).
        """

    async def replay(self, user: str, from_offsets: Mapping[str, int], limit: int) -> Replay:
        """Read the events after given offsets.

        When this returns, the receiver has been delivered everything up to `Replay.head`: what it is delivered later is
        newer. So a caller that switches from the replay to live events at `head` misses none and sends none twice. This
        holds for the shards that were read; for the others `head` repeats `position`. With no `from_offsets` nothing is
        read, and it holds for all shards.

        Args:
            user: the owner of the private messages, named `PRIVATE` in `from_offsets`.
            from_offsets: for each channel the offset, in its shard, to read after. A lost channel is not read.
            limit: about how many entries to return at most; the caller continues from `read_to`.
        """

    async def catch_up(self, shards: Iterable[int]) -> None:
        """Return when the receiver was delivered every event that these shards have accepted up to this call."""

    async def connect(
        self, member: Member, update: UserUpdate, since: Position | None = None
    ) -> UserChange | None:
        """Register a new connection and update its user, created if need be; return None if the id is taken.

        A changed state may be announced in several turns of the event loop. If the call is cancelled meanwhile, the
        connection is not registered, and the change stays.

        Args:
            since: the position from which it may read private messages, passed on to a later owner; None means from now on.
        """

    async def disconnect(self, member: Member, channels: Sequence[str]) -> None:
        """Unregister a connection: from its channels and from its user.

        Raises:
            Moved: another node owns it.
        """

    async def disconnect_all(self, leaving: Sequence[Leaving]) -> None:
        """Unregister many connections, each as `disconnect` does; those that another node owns are skipped.

        Not atomic: it takes several turns of the event loop, and other calls in between see a part of it. Users who leave
        a channel in one turn may share one event.

        Raises:
            Unavailable: some of them are still registered.
        """

    async def join(
        self, member: Member, channels: Mapping[str, Mapping[str, Any]], since: Position | None = None
    ) -> dict[str, int]:
        """Join channels that a connection is not in. Very many are joined in several turns of the event loop.

        Args:
            channels: each with the settings it gets if it is created.
            since: the position from which it may read them, passed on to a later owner; None means from now on.

        Returns:
            For each channel the offset, in its shard, after which the connection is a member; the receiver is delivered
            every later event of the channel.

        Raises:
            Moved: another node owns the connection.
        """

    async def leave(self, member: Member, channels: Sequence[str]) -> None:
        """Leave channels that a connection is in; very many in several turns of the event loop.

        Raises:
            Moved: another node owns the connection.
        """

    async def configure(self, patches: Mapping[str, Mapping[str, Any]]) -> None:
        """Change settings of channels, created if need be; settings that are not named keep their values."""

    async def update_user(self, name: str, update: UserUpdate) -> UserChange | None:
        """Change the state of a user, announced to very many channels in several turns; None if the user is unknown."""

    async def channels(self, names: Sequence[str] | None, with_users: bool = True) -> list[Channel]:
        """Return the known channels among these; None means all.

        Args:
            with_users: false returns only the number of users, at a cost that does not grow with it.
        """

    async def users(self, names: Sequence[str] | None, with_channels: bool = True) -> list[User]:
        """Return the known users among these; None means all.

        Args:
            with_channels: false leaves out their channels, which may lie in any shard.
        """

    async def states(self, members: Mapping[str, str]) -> list[User]:
        """Return users of whom only the state is valid; users that are no longer members are left out.

        Args:
            members: users, each with a channel that it is in, so that only the shard of that channel is asked.
        """

    async def members(self, channel: str) -> dict[str, str]:
        """Return the user of each connection in a channel at other nodes, and possibly of those at this one, by id."""

    async def nodes(self) -> list[NodeStatus]:
        """Return all nodes that share the log, this one included; none if the log belongs to this process alone."""

    async def ask(self, conn_id: str, command: bytes) -> bytes | None:
        """Send a command to the owner of a connection and return its answer; None if no living node owns it.

        Raises:
            Unavailable: the owner does not answer.
        """

    def owns(self, conn_id: str) -> bool:
        """Return whether this node certainly owns a connection it has; false where another node may have claimed it."""

    async def confirm_ownership(self, conn_id: str) -> None:
        """Register a connection of this node again; if another node owns it, `Receiver.taken_over` is called instead.

        Raises:
            Unavailable: the engine is out of reach, and the owner is still not known.
        """

    async def claim(self, conn_id: str, orphan: bool, request_release: RequestRelease) -> Claim | None:
        """Make this node the owner of a connection; return None if it is unknown.

        The former owner is notified (`Receiver.taken_over`). From before this returns, the receiver is delivered every
        event of the connection's channels and of its user.

        Args:
            orphan: claim it only if its owner has died.
            request_release: awaited once, when every shard that the connection needs is within reach and before it moves,
                so that the former owner does not drop its stream for a claim that cannot succeed.

        Raises:
            Moved: `orphan`, and the owner lives.
            Unavailable: a shard that the connection needs is out of reach. The owner has hardly changed; if it has, since
                the shard failed in the middle, a repeated claim continues.
        """

    async def collect(self) -> None:
        """Forget idle users, empty channels and aged entries; called every few seconds."""
