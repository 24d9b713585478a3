"""What a node does when its cluster calls: positions advance, connections move, other nodes send commands."""

from collections.abc import Collection

from channelstream.core.hub import Hub
from channelstream.core.position import Offsets, max_offsets
from channelstream.engines.members import Membership
from channelstream.service.handover import Handover
from channelstream.service.local import LocalConnections


class ClusterCalls:
    """The receiver of a cluster (`engines.cluster.ClusterReceiver`)."""

    def __init__(self, hub: Hub, local: LocalConnections, handover: Handover) -> None:
        self._hub = hub
        self._local = local
        self._handover = handover

    def advance(self, offsets: Offsets) -> None:
        self._hub.offsets = max_offsets(self._hub.offsets, offsets)

    def lost(self, channels: Collection[str], users: Collection[str]) -> None:
        self._local.lost(channels, users)

    def log_replaced(self, shard: int, offsets: Offsets) -> None:
        self._local.log_replaced(shard, offsets)

    def taken_over(self, conn_id: str) -> None:
        self._handover.taken_over(conn_id)

    def local_connections(self) -> Collection[str]:
        return self._hub.connections.keys()

    def has_channel(self, name: str) -> bool:
        return name in self._hub.channels

    def has_user(self, name: str) -> bool:
        return name in self._hub.users

    def membership(self, conn_id: str) -> Membership | None:
        return self._local.membership(conn_id)

    async def execute(self, command: bytes) -> bytes:
        return await self._handover.execute(command)
