"""The cluster port on Redis: the nodes of one log, and which of them owns a connection."""

from contextlib import suppress

from channelstream.core.node_status import NodeStatus
from channelstream.engines.cluster import Claim, ClusterReceiver, OwnerSilent, RequestRelease
from channelstream.engines.redis.claims import Claims
from channelstream.engines.redis.registrar import Registrar
from channelstream.engines.redis.restoring import Restoring
from channelstream.engines.redis.shard import Shard
from channelstream.engines.redis.shards import Shards


class RedisCluster:
    """The nodes that use the same shards."""

    is_single = False

    def __init__(self, shards: Shards, registrar: Registrar, claims: Claims, restoring: Restoring) -> None:
        self._shards = shards
        self._registrar = registrar
        self._claims = claims
        self._restoring = restoring

    @property
    def node_id(self) -> str:
        return self._registrar.node

    def serve(self, receiver: ClusterReceiver) -> None:
        self._registrar.serve(receiver)

    async def members(self, channel: str) -> dict[str, str]:
        found = await self._shards.at(channel).scans.fields("cm", channel)
        return {conn_id.decode(): user.decode() for conn_id, user in found.items()}

    async def nodes(self) -> list[NodeStatus]:
        answer = await self._any_shard().client.call("nodes")
        return [
            NodeStatus(node.decode(), label.decode(), int(connections), int(heartbeat_ms) / 1000, bool(lives))
            for node, label, connections, heartbeat_ms, lives in answer
        ]

    async def ask(self, conn_id: str, command: bytes) -> bytes | None:
        return await self._shards.at(conn_id).client.ask("ask", command, conn_id=conn_id)

    async def ask_node(self, node_id: str, command: bytes) -> bytes | None:
        with suppress(OwnerSilent):
            return await self._any_shard().client.ask("ask_node", command, to=node_id)
        return None

    def _any_shard(self) -> Shard:
        """Return a shard within reach, if there is one: every node is known to each shard, and listens at it."""
        return next((each for each in self._shards if each.is_linked), self._shards.at(""))

    async def use_once(self, text: str, keep_s: float) -> bool:
        client = self._shards.at(text).client
        key, keep_ms = f"{client.prefix}once:{text}", max(1, int(keep_s * 1000))
        return await client.command("SET", key, 1, "NX", "PX", keep_ms) is not None

    @property
    def remembered_seconds(self) -> float:
        return min(shard.log_age_s for shard in self._shards)

    def owns(self, conn_id: str) -> bool:
        return self._registrar.owns(conn_id)

    async def confirm_ownership(self, conn_id: str) -> None:
        await self._restoring.restore(conn_id, self._shards.at(conn_id))

    async def claim(self, conn_id: str, orphan: bool, request_release: RequestRelease) -> Claim | None:
        return await self._claims.claim(conn_id, orphan, request_release)
