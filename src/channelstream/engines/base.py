"""The ports of the shared state: `EventLog` and `Directory`; beside it `Movable`, `Cluster`, `TimeSeries` and `Outbox`.

An engine accepts events, assigns each an offset in its shard of the log (most engines have one shard), keeps the logs
that clients resume from, and delivers every accepted event to the receiver of every node. The log and the directory are
one object, since joining a channel is announced in its log in the same step. The cluster is an object beside it: engines
of one process share `SingleNode`. Every implementation runs `tests/engines/conformance`, which has a part for each port.

Two invariants hold for every engine, and a third for its cluster. Callers and receivers rely on them and check nothing
again:

- **Order and completeness.** Events of one shard arrive in offset order, each once, and `EventLog.position` never passes
  an event that concerns this node and is neither delivered nor reported as lost. A client's position is derived from it:
  a position that is too low costs a repeated read, one that is too high skips events for ever. So an engine that is
  not sure reports the lower offset, and one that finds it was too high begins a new epoch (`ClusterReceiver.log_replaced`).
- **Ambiguous failure.** `Unavailable` is ambiguous: the operation may have been applied, because an answer can be lost
  after the change was made. Callers repeat with the same uuid (`publish` drops the duplicate), or leave the repair to
  the engine (`join`, `leave`, `disconnect`). Any other error proves that nothing was accepted. To exclude the ambiguity,
  an engine would need a second round trip for each publish.

A method `..._at_once` does what the method without these words does, in the call itself. It returns None where that takes a
call of another process, a write, or several turns of the event loop: then nothing has happened, and the caller calls the
other one. So where nothing has to be waited for, a request is answered in the turn in which it was read.
"""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Protocol

from msgspec import Struct

from channelstream.core.accepted import Accepted
from channelstream.core.channel import Channel
from channelstream.core.entry import Entry
from channelstream.core.events import Event
from channelstream.core.log import Replay
from channelstream.core.moment import Moment
from channelstream.core.position import Offsets, Position
from channelstream.core.user import State, User, UserChange, UserUpdate
from channelstream.engines.cluster import Cluster
from channelstream.engines.members import Leaving, Member, RestoredConnection
from channelstream.engines.movable import Movable
from channelstream.engines.outbox import Outbox
from channelstream.engines.time_series import TimeSeries

NO_CHANNELS: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType({})
"""What a connection joins that is only registered."""


class Receiver(Protocol):
    """The node as the log sees it."""

    def deliver(self, entry: Entry) -> None:
        """Deliver an accepted event. Events of one shard arrive in offset order."""


class Clock(Protocol):
    """Time as the engine sees it, in seconds."""

    def wall(self) -> float:
        """Return seconds since 1970, for timestamps."""

    def steady(self) -> float:
        """Return seconds that never jump, for ages and deadlines."""


def moment(clock: Clock) -> Moment:
    """Return the current time of both clocks."""
    return Moment(clock.wall(), clock.steady())


class Counts(NamedTuple):
    """How many channels and users are known."""

    channels: int
    users: int


class Registered(Struct, frozen=True):
    """A new connection. It is a Struct since it is made for each, and is made in C.

    Attributes:
        user: its user, as it is after the call.
        offsets: the user has missed no event up to these.
        joined: its channels, as `Directory.join` returns them.
    """

    user: User
    offsets: Offsets
    joined: dict[str, int]


class MembersAt(NamedTuple):
    """The users in a channel at a moment.

    Attributes:
        members: each with its public state.
        offset: in the shard of the channel; they are as all events up to it have made them.
    """

    members: list[tuple[str, State]]
    offset: int


class EventLog(Protocol):
    """The port to the log: accepted events, and where each log ends.

    In each shard an event is accepted as a whole: it has its offset, is in the logs of its recipients, and what it
    supersedes is not, all in one step. Several events are not one step: if `publish` raises, a part of the list may
    be accepted, and an event whose recipients are in several shards may be accepted in some of them.
    """

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

    async def publish(self, events: Sequence[Event]) -> list[Accepted]:
        """Accept messages, edits and deletions in this order, except duplicates. An engine makes all other events itself.

        A duplicate is a message whose uuid, or whose deletion, the log has for every recipient, or an edit of a deleted
        message; unknown users count as those who have it, unless all are unknown. Once an event is accepted, what it
        supersedes is neither kept nor replayed (`core.compaction`). A message that comes after its edit is accepted in its
        edited form.
        """

    def publish_at_once(self, event: Event) -> Accepted | None:
        """Accept an event for all of its channel."""

    def divide(self, event: Event) -> AsyncIterator[Event]:
        """Divide a private event for very many users (`user_groups.is_for_many`) into events for some of them.

        They are published one after the other, so that no other call waits for all. A reader in between may find the
        event in the logs of some users only. An edit or a deletion is divided as its message was: where it is not for all
        users of an older event, that event does not get its new form.
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

    def nothing_after(self, user: str, from_offsets: Mapping[str, int], *, strict: bool) -> Offsets | None:
        """Find out without a wait whether `replay` would return no entry.

        Args:
            user, from_offsets: as of `replay`.
            strict: it would lose no channel either.

        Returns:
            `Replay.head` if that is so. None if it is not, or not known: that takes a call of another process, or very many
            logs are read.
        """

    async def catch_up(self, shards: Iterable[int]) -> None:
        """Return when the receiver was delivered every event that these shards have accepted up to this call."""


class DirectoryReads(Protocol):
    """What can be read of users and channels; nothing changes by it."""

    async def channels(self, names: Sequence[str] | None, with_users: bool = True) -> list[Channel]:
        """Return the known channels among these; None means all.

        Args:
            with_users: false returns only the number of users, at a cost that does not grow with it.
        """

    async def channels_at(
        self, names: Sequence[str], with_users: bool = True
    ) -> tuple[list[Channel], Position]:
        """Return the known channels among these, and a position: they are as all events up to it have made them.

        They may be as later events have made them. For a shard without any of these names the offset is that of `position`.
        """

    def channels_at_once(self, names: Sequence[str]) -> tuple[list[Channel], Position] | None:
        """Return what `channels_at` does."""

    async def users(self, names: Sequence[str] | None, with_channels: bool = True) -> list[User]:
        """Return the known users among these; None means all.

        Args:
            with_channels: false leaves out their channels, which may lie in any shard.
        """

    async def counts(self) -> Counts:
        """Return how many channels and users are known, at a cost that does not grow with them."""

    async def states(self, members: Mapping[str, str]) -> list[User]:
        """Return users of whom only the state is valid; users that are no longer members are left out.

        Args:
            members: users, each with a channel that it is in, so that only the shard of that channel is asked.
        """

    async def members_at(self, channel: str) -> MembersAt:
        """Return who is in a channel.

        When this returns, the events up to the offset are as durable as accepted ones are, and a later `replay` has the
        receiver delivered all of them.
        """


class Directory(DirectoryReads, Protocol):
    """The port to users, channels, settings, states and membership.

    Each step is atomic: a connection joins or leaves one channel, or one user's state changes. A call of one step is
    applied or raises. A call of many steps (long lists of channels or connections) may take several turns of the event loop,
    and other calls in between see a part of it. What such a call leaves behind when it raises:

    - `connect`, `join` and `leave` in one process take back what they did; in shards, the registration of the connection
      is repaired until it is that of its owner (`Membership`).
    - `configure` and `disconnect_all` may have been applied in part; a repeated call completes them.
    """

    connects_at_once: bool
    """Whether `connect_at_once` registers any connection; if not, nobody need ask it."""

    async def connect(
        self,
        member: Member,
        update: UserUpdate,
        channels: Mapping[str, Mapping[str, Any]] = NO_CHANNELS,
        since: Position | None = None,
    ) -> Registered | None:
        """Register a new connection, update its user, created if need be, and join channels; None if the id is taken.

        A changed state may be announced in several turns of the event loop, and is announced before the user joins. If the
        call fails or is cancelled meanwhile, the connection is not registered, and the change may stay.

        Args:
            channels: as those of `join`.
            since: the position from which it may read them, and private messages; see `join`.

        Raises:
            Moved: another node owns the connection by now.
        """

    def connect_at_once(
        self,
        member: Member,
        update: UserUpdate,
        channels: Mapping[str, Mapping[str, Any]] = NO_CHANNELS,
        since: Position | None = None,
    ) -> Registered | None:
        """Register a new connection, whose id nobody has had."""

    async def restored_connections(self) -> Sequence[RestoredConnection]:
        """Return the connections that the last run of this server left registered; called once, after `Engine.start`.

        They are members of their channels already, and were announced. The node ends those that do not come back. An
        engine that keeps no connections, or keeps them under leases of their nodes, returns none.
        """

    async def disconnect(self, member: Member, channels: Sequence[str]) -> None:
        """Unregister a connection: from its channels and from its user; once it returns, no restart restores it.

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


class Engine(EventLog, Directory, Movable, Protocol):
    """All ports of one shared state.

    A method that needs a service raises `Unavailable` when the service is out of reach, and no other error of that
    service. `Unavailable` is ambiguous (see above).
    """

    name: str
    """Its name in the configuration and in `/info`."""

    can_fail: bool
    """Whether a call may fail or take long; if not, as it answers from memory, nobody watches or measures it."""

    @property
    def cluster(self) -> Cluster:
        """The nodes that share it."""

    @property
    def time_series(self) -> TimeSeries:
        """Records by time, which outlive the process if the engine does."""

    @property
    def outbox(self) -> Outbox:
        """The facts that webhooks have not sent yet."""

    @property
    def is_reachable(self) -> bool:
        """Whether it serves calls, as far as it knows without a call; asked between `start` and `close`.

        It turns false with the first call that finds the service out of reach, and true again without any call.
        """

    @property
    def is_partly_reachable(self) -> bool:
        """Whether it serves calls about some channels and users at least; `is_reachable` says that it serves all."""

    @property
    def log_bytes(self) -> int | None:
        """The bytes that the logs of all channels and users count for; None if a service keeps them."""

    async def start(self, receiver: Receiver) -> None:
        """Deliver accepted events to `receiver` from now on, beginning after `position`.

        Raises:
            ConfigError: the engine cannot be used as it is configured.
            CannotHandOver: after `take_over`: it has another log than the other process had.
        """

    async def close(self) -> None:
        """Stop; everything that was acknowledged is as durable as this engine promises."""

    async def collect(self) -> None:
        """Forget idle users, empty channels and aged entries; called every few seconds."""
