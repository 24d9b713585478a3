"""The port to the other nodes: which node owns each connection, commands between nodes, and the list of nodes.

One invariant holds for every implementation. Callers rely on it and check nothing again:

- **One owner.** At most one node owns a connection. A call for a connection that another node owns raises `Moved` and
  leaves the new owner's registration as it is, so a node that was out of reach, and was declared dead meanwhile, cannot
  undo what the new owner does. `owns` answers from memory, because it is asked for every stream that opens; while it is
  false, the stream waits for `confirm_ownership`.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from channelstream.core.node_status import NodeStatus
from channelstream.core.position import Offsets, ReadRange
from channelstream.engines.members import Member, Membership
from channelstream.errors import Unavailable

RequestRelease = Callable[[], Awaitable[None]]
"""Asks the owner of a connection to release it; returns when the owner has, or does not answer."""


class OwnerSilent(Unavailable):
    """The node that owns a connection receives nothing: it hands over to a new process, or has died."""


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


class ClusterReceiver(Protocol):
    """The node as the cluster sees it. With one node none of it is called."""

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

    def node_died(self, node: NodeStatus, ended: int | None) -> None:
        """Report, once for all nodes, that a node is dead, as it was at its last heartbeat.

        Args:
            ended: how many connections were unregistered for it; its others had moved to nodes that live. None if that is
                not known, as where each shard has a part of them.
        """

    def local_connections(self) -> Collection[str]:
        """Return the ids of the connections of this node."""

    def has_channel(self, name: str) -> bool:
        """Return whether a connection of this node is in the channel."""

    def has_user(self, name: str) -> bool:
        """Return whether the user has a connection at this node."""

    def membership(self, conn_id: str) -> Membership | None:
        """Return the current channels of a connection, to register it again; None if it has left this node."""

    async def execute(self, command: bytes) -> bytes:
        """Execute a command of another node and return the answer."""


class Cluster(Protocol):
    """The port. Its methods raise `Unavailable` when the engine's service is out of reach, and no other error of it."""

    is_single: bool
    """Whether there can be no other node, so that nobody needs to be asked."""

    @property
    def remembered_seconds(self) -> float:
        """From how long before the start of this node on each text is known that was used once, in seconds."""

    @property
    def node_id(self) -> str:
        """The id of this node in `nodes`; empty if the log belongs to this process alone."""

    def serve(self, receiver: ClusterReceiver) -> None:
        """Call this receiver from `Engine.start` on."""

    async def members(self, channel: str) -> dict[str, str]:
        """Return the user of each connection in a channel at other nodes, and possibly of those at this one, by id."""

    async def nodes(self) -> list[NodeStatus]:
        """Return all nodes that share the log, this one included; none if the log belongs to this process alone."""

    async def ask(self, conn_id: str, command: bytes) -> bytes | None:
        """Send a command to the owner of a connection and return its answer; None if no node owns it.

        Raises:
            OwnerSilent: the owner receives nothing now.
            Unavailable: the owner does not answer.
        """

    async def ask_node(self, node_id: str, command: bytes) -> bytes | None:
        """Send a command to a node and return its answer; None if no such node receives it.

        Raises:
            Unavailable: the node does not answer.
        """

    async def use_once(self, text: str, keep_s: float) -> bool:
        """Use a text; return False if another node has used it, which counts for `keep_s` seconds from then on.

        A node does not ask twice for one text.

        Raises:
            Unavailable: the engine is out of reach; the text may have been used.
        """

    def owns(self, conn_id: str) -> bool:
        """Return whether this node certainly owns a connection it has; false where another node may have claimed it."""

    async def confirm_ownership(self, conn_id: str) -> None:
        """Register a connection of this node again; if another node owns it, `ClusterReceiver.taken_over` is called instead.

        Raises:
            Unavailable: the engine is out of reach, and the owner is still not known.
        """

    async def claim(self, conn_id: str, orphan: bool, request_release: RequestRelease) -> Claim | None:
        """Make this node the owner of a connection; return None if it is unknown.

        The former owner is notified (`ClusterReceiver.taken_over`). From before this returns, the log's receiver is
        delivered every event of the connection's channels and of its user.

        Args:
            orphan: claim it only if its owner has died.
            request_release: awaited once, when every shard that the connection needs is within reach and before it moves,
                so that the former owner does not drop its stream for a claim that cannot succeed.

        Raises:
            Moved: `orphan`, and the owner lives.
            Unavailable: a shard that the connection needs is out of reach. The owner has hardly changed; if it has, since
                the shard failed in the middle, a repeated claim continues.
        """


class SingleNode:
    """The cluster of an engine of one process: this node owns every connection there is."""

    is_single = True
    remembered_seconds = 0.0
    node_id = ""

    def serve(self, receiver: ClusterReceiver) -> None:
        """Do nothing: no other node calls."""

    async def members(self, channel: str) -> dict[str, str]:
        return {}

    async def nodes(self) -> list[NodeStatus]:
        return []

    async def ask(self, conn_id: str, command: bytes) -> bytes | None:
        return None

    async def ask_node(self, node_id: str, command: bytes) -> bytes | None:
        return None

    async def use_once(self, text: str, keep_s: float) -> bool:
        return True

    def owns(self, conn_id: str) -> bool:
        return True

    async def confirm_ownership(self, conn_id: str) -> None:
        """Do nothing: it is certain."""

    async def claim(self, conn_id: str, orphan: bool, request_release: RequestRelease) -> Claim | None:
        return None
