"""The registration of a connection in single shards, as far as claims, changes and repairs share it."""

import asyncio
from collections.abc import Iterable
from typing import Any

from channelstream.core.client_protocol import PresenceAudience
from channelstream.engines.cluster import ClusterReceiver
from channelstream.engines.members import Member
from channelstream.engines.redis.delivery import Delivery
from channelstream.engines.redis.ownership import Owner, Ownership
from channelstream.engines.redis.registration_index import Registration, RegistrationStep
from channelstream.engines.redis.shard import Shard
from channelstream.engines.redis.shard_client import AGAIN
from channelstream.engines.redis.shard_state import NodeContext
from channelstream.engines.redis.shards import Shards, results_and_errors
from channelstream.errors import Unavailable


class Registrar:
    """Which shards register a connection, and how it is unregistered in them.

    Attributes:
        label: its name for people.
        ownership: what this node knows about its connections.
    """

    def __init__(self, shards: Shards, ownership: Ownership, node: NodeContext, delivery: Delivery) -> None:
        self._node = node
        self.label = node.label
        self.ownership = ownership
        self._shards = shards
        self._delivery = delivery

    @property
    def node(self) -> str:
        """The id of this node in Redis."""
        return self._node.name

    @property
    def has_one_shard(self) -> bool:
        """Whether its shard has all connections: of several each has those whose id, user or channels are there."""
        return len(self._shards) == 1

    def serve(self, receiver: ClusterReceiver) -> None:
        """See `Cluster.serve`."""
        self._delivery.cluster_receiver = receiver
        self.ownership.local = receiver.local_connections

    @property
    def receiver(self) -> ClusterReceiver:
        """The node, as the cluster sees it."""
        return self._delivery.cluster_receiver

    def owns(self, conn_id: str) -> bool:
        """See `Cluster.owns`."""
        is_certain = self.ownership.owner(conn_id) is not Owner.SUSPECTED
        return is_certain and self._shards.at(conn_id).is_linked

    def taken_over(self, conn_id: str) -> None:
        """Forget a connection that another node owns now, and report the change of owner to the receiver."""
        self._delivery.taken_over(conn_id)

    def registered_shards(self, conn_id: str, user: str, channels: Iterable[str]) -> list[Shard]:
        """Return every shard that may register a connection with this user and these channels."""
        known = map(self._shards.by_index, self.ownership.registrations.shards(conn_id))
        return list(dict.fromkeys((*self._shards.split((conn_id, user, *channels)), *known)))

    def channels_in(self, shard: Shard, channels: Iterable[str]) -> list[str]:
        return [name for name in channels if self._shards.at(name) is shard]

    def has_channels_in(self, shard: Shard, conn_id: str) -> bool:
        """Return whether a connection of this node is in channels of a shard, or is joining one."""
        membership = self.receiver.membership(conn_id)
        return membership is not None and bool(self.channels_in(shard, membership.channels))

    def is_listed(self, shard: Shard, conn_id: str) -> bool:
        """Return whether the directory certainly lists a shard for a connection."""
        return self.ownership.registrations.state(conn_id, shard.index) is Registration.REGISTERED

    def is_permanent(self, shard: Shard, member: Member) -> bool:
        """Return whether a shard registers a connection even if the connection has no channel there.

        Two shards do so: the shard of the connection's id, and the shard of the connection's user.
        """
        return shard in (self._shards.at(member.conn_id), self._shards.at(member.user))

    def mark_unconfirmed(self, member: Member, shards: Iterable[Shard]) -> None:
        """Mark a connection after a call with an unknown outcome, so that reconcilers restore it."""
        for shard in shards if self.ownership.is_ours(member.conn_id) else ():
            self.ownership.registrations.move(member.conn_id, shard.index, RegistrationStep.FAIL)

    def identity(self, member: Member) -> dict[str, Any]:
        name, presence = member.protocol
        always = presence is PresenceAudience.ALWAYS
        client = {"protocol": name, "always": always}
        return {"conn_id": member.conn_id, "node": self.node, "user": member.user, "client": client}

    async def release(self, conn_id: str, shards: Iterable[Shard]) -> None:
        """Release a connection in shards. If a shard is out of reach, its reconciler does this later."""
        calls = (shard.client.call("disconnect", conn_id=conn_id, node=self.node) for shard in shards)
        outcomes = asyncio.gather(*calls, return_exceptions=True)
        bugs = [each for each in results_and_errors(await outcomes)[1] if not isinstance(each, Unavailable)]
        if bugs:
            raise bugs.pop()

    async def unregister(self, shard: Shard, conn_id: str) -> None:
        """Unregister a connection in a shard that has none of its channels.

        The shard is neither that of the connection's id nor that of its user.

        First the directory removes the shard from its list. In the other order a claim in between would find
        a listed shard that does not register the connection. The claim would take that shard for one that has
        lost its data. If the directory or the shard is out of reach, the registration remains until the
        reconciler repeats this call.
        """
        # Without this entry `is_listed` is false. So a join that begins from now on adds the shard to the
        # list again.
        self.ownership.registrations.move(conn_id, shard.index, RegistrationStep.UNREGISTER)
        less = {"conn_id": conn_id, "node": self.node, "less": [str(shard.index)]}
        try:
            await self._shards.at(conn_id).client.call("spread", **less, more=[])
            while not self.has_channels_in(shard, conn_id):
                if await shard.client.step("disconnect", conn_id=conn_id, node=self.node) != AGAIN:
                    return
            # The connection has meanwhile joined a channel in the shard, or is about to. So it stays
            # registered there. It is marked, because it is not certain that the directory lists the shard.
            self.ownership.registrations.move(conn_id, shard.index, RegistrationStep.FAIL)
        except BaseException as error:
            if self.ownership.is_ours(conn_id):
                self.ownership.registrations.move(conn_id, shard.index, RegistrationStep.REGISTER)
                self.ownership.registrations.move(conn_id, shard.index, RegistrationStep.FAIL)
            if not isinstance(error, Unavailable):
                raise
