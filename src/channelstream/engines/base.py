"""The engine port: what the node asks of the place where the shared truth lives.

An engine accepts events, gives each a number in its shard of the log (most have one shard), keeps what resuming needs, and
hands every accepted event to its receiver in that order - here and on every other node. An engine that several nodes share
also knows which node holds which connection, and carries commands between them. Every implementation runs
`tests/engines/conformance.py`.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from msgspec import Struct

from channelstream.core.channel import Channel
from channelstream.core.events import Dialect, Event
from channelstream.core.log import Entry
from channelstream.core.position import Offsets, Position, ReadRange
from channelstream.core.registry import Moment
from channelstream.core.user import StateValue, User

RequestRelease = Callable[[], Awaitable[None]]
"""Has the node that holds a connection give it up."""

PRIVATE = ""
"""How the private messages of a user are called where channels are listed (docs/resume.md)."""


class Receiver(Protocol):
    """The node as its engine sees it. An engine of one process calls nothing but `deliver`."""

    def deliver(self, entry: Entry) -> None:
        """Hear an accepted event; those of one shard come in its order."""

    def advance(self, offsets: Offsets) -> None:
        """Hear that everything up to these numbers which concerns this node has been delivered."""

    def lost(self, channels: Collection[str], users: Collection[str]) -> None:
        """Hear that events of these channels and private messages of these users could not be delivered."""

    def log_replaced(self, shard: int, offsets: Offsets) -> None:
        """Handle the replacement of a shard's log by a new one that begins at `offsets[shard]`.

        Nothing older than that can be proven complete.
        """

    def taken_over(self, conn_id: str) -> None:
        """Hear that another node has taken over a connection."""

    def local_connections(self) -> Collection[str]:
        """Return the ids of the connections this node holds."""

    def has_channel(self, name: str) -> bool:
        """Say whether a connection of this node is in the channel."""

    def has_user(self, name: str) -> bool:
        """Say whether a connection of this node is the user's."""

    def membership(self, conn_id: str) -> "Membership | None":
        """Return what a connection of this node is in, to be counted anew; None if it is gone."""

    async def execute(self, command: bytes) -> bytes:
        """Do what another node asks and return the answer."""


class Clock(Protocol):
    """Time as the engine sees it, in seconds."""

    def wall(self) -> float:
        """Seconds since 1970, for timestamps."""

    def steady(self) -> float:
        """Seconds that never jump, for ages and deadlines."""


def moment(clock: Clock) -> Moment:
    """Return this moment by both clocks."""
    return Moment(clock.wall(), clock.steady())


@dataclass(frozen=True, slots=True)
class Member:
    """A connection, as far as the engine counts it."""

    conn_id: str
    user: str
    dialect: Dialect


@dataclass(frozen=True, slots=True)
class Leaving:
    """A connection that ends, with the channels it is in."""

    member: Member
    channels: Sequence[str]


@dataclass(frozen=True, slots=True)
class Membership:
    """What a connection is in, as the node that holds it knows.

    Attributes:
        channels: each with from where the connection may read it; None while it is just joining.
        private: from where it may read its user's private messages.
    """

    member: Member
    channels: Mapping[str, ReadRange | None]
    private: ReadRange | None = None


@dataclass(frozen=True, slots=True)
class UserUpdate:
    """What a request says about a user.

    Attributes:
        values: state to set.
        fresh: state to set only if the user is new.
        public_keys: the keys that are public from now on; None keeps those it has.
        add_public: keys that become public in addition.
    """

    values: Mapping[str, StateValue]
    fresh: Mapping[str, StateValue]
    public_keys: Sequence[str] | None = None
    add_public: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class UserChange:
    """A user after an update.

    Attributes:
        changed: the (key, value) pairs that changed.
        seqs: up to where the user has missed nothing at that moment.
    """

    user: User
    changed: list[tuple[str, StateValue]]
    offsets: Offsets


@dataclass(frozen=True, slots=True)
class Claim:
    """A connection that was taken over.

    Attributes:
        channels: its channels, each with from where it may read it.
        private: likewise for its user's private messages; None where their shard knows nothing of the connection.
        seqs: up to where it has certainly missed nothing, though it may have heard more.
        is_whole: whether these are all channels it was in; a part of the log may have lost what it knew of it.
    """

    member: Member
    channels: Mapping[str, ReadRange]
    private: ReadRange | None
    offsets: Offsets
    is_whole: bool


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """A node, as those that share its log know it.

    Attributes:
        id: what logs call it.
        label: the machine and the process, for people.
        connections: how many it held at its last beat.
        beat_s: when that was, in seconds since 1970, by the clock all nodes share.
        is_alive: whether its lease still runs; of one whose lease has ended, others count the connections out.
    """

    id: str
    label: str
    connections: int
    heartbeat_s: float
    is_alive: bool


class Accepted(Struct, frozen=True, gc=False):
    """What became of one published event.

    Attributes:
        event: as it was published; for a repeated message, what is kept of it by now.
        repeated: nothing was delivered: everybody it is for has that message, or it was deleted for them (then not `found`).
        found: whether the message is still kept: that of an edit or a deletion, or the one that is repeated.
    """

    event: Event
    duplicate: bool
    found: bool


@dataclass(frozen=True, slots=True)
class Replay:
    """A stretch of the log.

    Attributes:
        entries: in the order of each shard, across channels.
        lost: the channels whose log no longer reaches back to where they were asked from.
        upto: everything up to these numbers that was asked for is in `entries`.
        head: the numbers of the last events when they were read; equal to `read_to` when nothing is left to read.
    """

    entries: list[Entry]
    lost: frozenset[str]
    read_to: Offsets
    head: Offsets


class Engine(Protocol):
    """The port. Methods that change something are atomic: all of it is accepted, or an error is raised and nothing is.

    Every method that asks a service raises `Unavailable` where that is out of reach, and lets no other error of it pass.

    Only `Unavailable` is no proof of that: an engine out of reach may have accepted what it could not confirm.
    """

    name: str
    """How it is called in the configuration and by `/info`."""
    shared: bool
    """Whether several nodes can use it at once; `ask` and `claim` of one that is not know no connection."""

    @property
    def position(self) -> Position:
        """What this node was handed, in the present epochs; `core.position.shard_of` tells what is in which shard."""

    async def head(self, names: Iterable[str] | None = None, all_shards: bool = False) -> Position:
        """Return the position behind the last events that were accepted on any node.

        Args:
            names: the channels and users it is needed for. In shards that have none of them it is what this node was handed,
                which may be less than there is, and never more. None means all shards.
            others: ask the other shards as well; only one that is out of reach has what this node was handed.
        """

    async def start(self, receiver: Receiver) -> None:
        """Begin to hand accepted events to `receiver`, from the position on.

        Raises:
            ConfigError: the engine cannot be used as it is configured.
        """

    async def close(self) -> None:
        """Stop; everything acknowledged is as safe as this engine promises."""

    async def publish(self, events: Sequence[Event]) -> list[Accepted]:
        """Accept events in this order, but not what everybody they are for has already.

        That is a message of which the log holds the uuid, or its deletion, and an edit of what was deleted. Once an event is
        accepted nothing that it supersedes is replayed any more, nor kept (`core.compaction`).
        """

    async def replay(self, user: str, from_offsets: Mapping[str, int], limit: int) -> Replay:
        """Read what followed.

        Args:
            user: whose private messages are meant by the name `PRIVATE` in `from_offsets`.
            starts: for each channel the number, in its shard, after which to read; channels lost are not read.
            limit: about how many entries to return at most; the caller asks on from `read_to`.

        When it returns, the receiver has been handed everything up to the replay's head: what it hears later is newer. That
        goes for the shards that were read, and of the others the head is what the receiver was handed; without any start
        nothing is read, and it goes for all.
        """

    async def catch_up(self, shards: Iterable[int]) -> None:
        """Have the receiver handed all that was accepted by now in some shards, where it may have been told of nothing."""

    async def connect(
        self, member: Member, update: UserUpdate, since: Position | None = None
    ) -> UserChange | None:
        """Count a new connection of a user, created if need be, and update the user; None: another node has that id.

        Args:
            since: from where it may read private messages, to be told to whoever claims it; None means from now on.
        """

    async def disconnect(self, member: Member, channels: Sequence[str]) -> None:
        """Count a connection out of its channels and of its user.

        Raises:
            Moved: another node speaks for it by now.
        """

    async def disconnect_all(self, leaving: Sequence[Leaving]) -> None:
        """Count many connections out, each as `disconnect` does, but for those another node speaks for by now.

        Others have their turn in between, and see some of them gone and others not. Users who leave a channel in one turn
        may part in one event.

        Raises:
            Unavailable: some of them are not counted out.
        """

    async def join(
        self, member: Member, channels: Mapping[str, Mapping[str, Any]], since: Position | None = None
    ) -> dict[str, int]:
        """Count a connection into channels it is not in; each with the settings it gets if it is new.

        Of very many others have their turn in between, and see it in some of them.

        Args:
            since: from where it may read them, to be told to whoever claims the connection; None means from now on.

        Returns:
            For each the number, in its shard, after which it is a member; the receiver is handed every later event of it.

        Raises:
            Moved: another node speaks for it by now.
        """

    async def leave(self, member: Member, channels: Sequence[str]) -> None:
        """Count a connection out of channels it is in; of very many as `join` does.

        Raises:
            Moved: another node speaks for it by now.
        """

    async def configure(self, patches: Mapping[str, Mapping[str, Any]]) -> None:
        """Change the named settings of channels, created if need be."""

    async def update_user(self, name: str, update: UserUpdate) -> UserChange | None:
        """Change a known user's state; None when it is unknown."""

    async def channels(self, names: Sequence[str] | None, with_users: bool = True) -> list[Channel]:
        """Return these channels, the unknown left out; None means all.

        Args:
            with_users: False where the number of users will do, which costs the same however many there are.
        """

    async def users(self, names: Sequence[str] | None, with_channels: bool = True) -> list[User]:
        """Return these users, the unknown left out; None means all.

        Args:
            with_channels: False where nobody asks for their channels, which any shard may have.
        """

    async def states(self, members: Mapping[str, str]) -> list[User]:
        """Return the states of users, those left out that are not members any more; nothing else of them is sure.

        Args:
            members: users, each with a channel that it is in: no other shard needs to be asked.
        """

    async def members(self, channel: str) -> list[Member]:
        """Return the channel's connections that other nodes hold, and perhaps those of this one."""

    async def nodes(self) -> list[NodeStatus]:
        """Return the nodes that share the log, this one among them; none where the log is this process's own."""

    async def ask(self, conn_id: str, command: bytes) -> bytes | None:
        """Have the node that holds a connection obey, and return its answer; None where no living node holds it.

        Raises:
            Unavailable: that node does not answer.
        """

    def owns(self, conn_id: str) -> bool:
        """Say whether a connection that is held here is this node's for certain: no other can have it by now."""

    async def confirm_ownership(self, conn_id: str) -> None:
        """Count a connection that is held here anew, or yield it to the node that has it by now.

        Raises:
            Unavailable: the engine is out of reach.
        """

    async def claim(self, conn_id: str, orphan: bool, request_release: RequestRelease) -> Claim | None:
        """Take a connection over from whichever node held it, which is told so; None: it is unknown.

        The receiver is handed every event of its channels and of its user from before this returns.

        Args:
            orphan: only if the node that holds it has died.
            leave: awaited once, when nothing that the connection needs is out of reach and before it moves.

        Raises:
            Moved: that node lives.
            Unavailable: a part of the log in which the connection has something is out of reach. It has not moved, unless
                that was the part of its id.
        """

    async def collect(self) -> None:
        """Forget idle users, empty channels and aged logs; called every few seconds."""
