"""From the shards to the receiver: events with their positions, and connections that another node has claimed.

The shards call this, and it calls no shard: it knows only how far each of them has been received.
"""

from collections.abc import Callable, Sequence

from channelstream.core.position import Offsets
from channelstream.engines.base import Receiver
from channelstream.engines.cluster import ClusterReceiver
from channelstream.engines.redis import codec
from channelstream.engines.redis.shard_state import ShardState


class Delivery:
    """Passes on what the shards receive.

    Attributes:
        receiver: the node, as the log sees it; set before the first shard is linked.
        cluster_receiver: the node, as the cluster sees it; set as early.
    """

    receiver: Receiver
    cluster_receiver: ClusterReceiver

    def __init__(self, states: Sequence[ShardState], forget: Callable[[str], None]) -> None:
        """Create one without a receiver.

        Args:
            states: those of all shards, in the order of their index.
            forget: called with the id of a connection that this node no longer owns.
        """
        self._states = states
        self._forget = forget

    @property
    def epochs(self) -> tuple[str, ...]:
        return tuple(state.epoch for state in self._states)

    @property
    def offsets(self) -> Offsets:
        """The offsets up to which this node was delivered everything."""
        return tuple(state.offset for state in self._states)

    def deliver(self, shard: int, offset: bytes, at_ms: bytes, text: bytes, payload: bytes) -> None:
        """Deliver an event; `ShardState.offset` includes it already."""
        origin = codec.Origin(self.epochs, self.offsets, shard)
        self.receiver.deliver(origin.entry(offset, at_ms, text, payload))

    def advance(self) -> None:
        """Report that the offset of a shard has advanced without an event for this node."""
        self.cluster_receiver.advance(self.offsets)

    def log_replaced(self, shard: int) -> None:
        """Report that a shard has another log now."""
        self.cluster_receiver.log_replaced(shard, self.offsets)

    def taken_over(self, conn_id: str) -> None:
        """Report that another node owns a connection."""
        self._forget(conn_id)
        self.cluster_receiver.taken_over(conn_id)
