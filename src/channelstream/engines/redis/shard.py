"""One shard of the log, as one node sees it.

A shard has its own epoch and offsets, and reconnects independently of the others; `engine.py` and `sharded_log.py` combine
them. Its parts depend on each other in one direction: `ShardLink` has the link that all of them use, `ShardClient` makes
calls, `ShardScans` reads what is known by them, `ShardLog` publishes and reads events by them, `ShardSubscriber` receives
messages and passes them to `Delivery`, and `ShardRecovery` establishes a link.
"""

from channelstream.engines.redis.address import ShardAddress
from channelstream.engines.redis.delivery import Delivery
from channelstream.engines.redis.moved_shard import MovedShard
from channelstream.engines.redis.shard_client import ShardClient
from channelstream.engines.redis.shard_link import ShardLink
from channelstream.engines.redis.shard_log import ShardLog
from channelstream.engines.redis.shard_recovery import ShardRecovery
from channelstream.engines.redis.shard_scans import ShardScans
from channelstream.engines.redis.shard_state import NodeContext, ShardState
from channelstream.engines.redis.shard_subscriber import ShardSubscriber


class Shard:
    """The parts of one shard.

    Attributes:
        pending_state: users whose changed state was not sent to this shard yet.
    """

    def __init__(
        self, address: ShardAddress, node: NodeContext, state: ShardState, delivery: Delivery
    ) -> None:
        self.pending_state: set[str] = set()
        self.link = ShardLink(address, state)
        self.client = ShardClient(address, node, state, self.link)
        self.scans = ShardScans(node, self.link, self.client)
        self.log = ShardLog(address, node, self.link, self.client)
        self.subscriber = ShardSubscriber(state, self.link, self.client, delivery)
        self._node = node
        self._state = state
        self._recovery = ShardRecovery(
            address, node, state, self.link, self.client, self.log, self.subscriber, delivery
        )

    @property
    def index(self) -> int:
        return self._state.index

    @property
    def label(self) -> str:
        return self._state.label

    @property
    def epoch(self) -> str:
        return self._state.epoch

    @property
    def offset(self) -> int:
        return self._state.offset

    @property
    def log_age_s(self) -> float:
        """See `ShardState.age_s`."""
        return self._state.age_s

    @property
    def is_linked(self) -> bool:
        return self.link.is_linked

    def moved(self, unconfirmed: list[str]) -> MovedShard:
        """Return what this node knows about the shard, for another process."""
        state, subscribed = self._state, self.subscriber.subscribed
        pending = sorted(self.pending_state)
        return MovedShard(state.epoch, state.offset, state.needs_new_epoch, subscribed, pending, unconfirmed)

    def restore(self, moved: MovedShard) -> None:
        """Begin with what another process knows about the shard; call it before the first link."""
        state = self._state
        state.epoch, state.offset, state.needs_new_epoch = moved.epoch, moved.offset, moved.needs_new_epoch
        self.subscriber.subscribed = dict(moved.subscribed)
        self.pending_state.update(moved.pending_state)

    async def establish(self) -> None:
        """See `ShardRecovery.establish`."""
        await self._recovery.establish()

    async def stop_answering(self) -> None:
        """See `ShardSubscriber.stop_answering`."""
        await self.subscriber.stop_answering(f"#n:{self._node.name}")
