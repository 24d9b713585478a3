"""Repairs of registrations, which reconcilers ask for: shards register the connections that this node has, and no others.

While the directory of a connection is out of reach, this node may lose the connection without notice. Another node may
claim it, and the message about the claim is lost, since Redis publishes it but does not store it. Or the lease of this
node ends, and another node reaps it. So when the link breaks, the connection is suspected, and `owns` is false. It becomes
true again when the directory has confirmed that this node is the owner.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

from channelstream.engines.members import Membership
from channelstream.engines.redis import codec
from channelstream.engines.redis.ownership import OwnerStep
from channelstream.engines.redis.registrar import Registrar
from channelstream.engines.redis.registration_index import RegistrationStep
from channelstream.engines.redis.shard import Shard
from channelstream.engines.redis.shard_client import AGAIN, CHUNK
from channelstream.engines.redis.shards import Shards
from channelstream.errors import Unavailable

SUSPECTED_AT_ONCE = 1000
"""Connections marked as suspected in one turn of the event loop."""


class Restoring:
    """The repairs of one node."""

    def __init__(self, shards: Shards, registrar: Registrar, bounds: Mapping[str, Any]) -> None:
        self._shards = shards
        self._registrar = registrar
        self._ownership = registrar.ownership
        self._bounds = bounds

    async def drop_stale(self) -> None:
        """Forget the registrations of connections that this node no longer has."""
        if not self._ownership.has_stale():
            return
        for batch in self._ownership.registrations.batches():
            for conn_id in batch:
                if not self._ownership.is_ours(conn_id):
                    self._ownership.forget(conn_id)
            await asyncio.sleep(0)

    async def suspect(self, shard: Shard) -> None:
        """Suspect the connections whose directory is this shard: `owns` is false for them from now on.

        While the shard is out of reach, another node may claim them.
        """
        everything = iter(list(self._ownership.local()))
        while batch := list(islice(everything, SUSPECTED_AT_ONCE)):
            # A connection that has ended meanwhile has another owner now, so this does not suspect it.
            self._move(batch, shard, OwnerStep.SUSPECT)
            await asyncio.sleep(0)

    def confirm(self, conn_ids: Iterable[str], shard: Shard) -> None:
        """Clear the suspicion of connections that their directory registers for this node.

        In the directory one script changes both the owner and the registration. So a directory never
        registers a connection for a former owner.
        """
        self._move(conn_ids, shard, OwnerStep.CONFIRM)

    def _move(self, conn_ids: Iterable[str], shard: Shard, step: OwnerStep) -> None:
        """Make a transition of those connections whose directory is a shard."""
        for conn_id in conn_ids:
            if self._shards.at(conn_id) is shard:
                self._ownership.move(conn_id, step)

    async def restore(self, conn_id: str, shard: Shard) -> None:
        """Register a connection of this node, with its present channels, in a shard.

        Called after the shard has lost the connection, or after a call about the connection has failed.
        """
        if shard is not self._shards.at(conn_id) and not self._registrar.owns(conn_id):
            # Another node may own the connection, with other channels. So the connection is marked: the
            # reconciler calls this again, once the directory has answered.
            self._ownership.registrations.move(conn_id, shard.index, RegistrationStep.FAIL)
            return
        while not await self._restore_once(conn_id, shard):
            pass

    async def _restore_once(self, conn_id: str, shard: Shard) -> bool:
        """Try to restore a connection, and return whether this is done.

        If it is not done, the script has stopped at its limits. The caller then repeats this method, which
        reads the channels of the connection again.
        """
        state = b""
        membership = self._registrar.receiver.membership(conn_id)
        if membership is not None and self._registrar.channels_in(shard, membership.channels):
            state = await self._shards.state_for(membership.member.user, [shard])
            # While this waited, the connection may have joined or left a channel, or ended. So it is read
            # again. Nothing is awaited between this read and the call. So the shard receives this call before
            # any call about a later change.
            membership = self._registrar.receiver.membership(conn_id)
        if membership is None:
            self._ownership.move(conn_id, OwnerStep.FORGET)
            return True
        channels_here: list[Any] = [
            (name, {}, codec.encode_read_range(membership.channels[name]))
            for name in self._registrar.channels_in(shard, membership.channels)
        ]
        if not (channels_here or self._registrar.is_permanent(shard, membership.member)):
            await self._registrar.unregister(shard, conn_id)
            return True
        reply = await self._restore(
            shard, membership, channels_here[:CHUNK], state, whole=len(channels_here) <= CHUNK
        )
        return reply != AGAIN and await self._finish_restore(conn_id, shard, reply, len(channels_here), state)

    async def _finish_restore(
        self, conn_id: str, shard: Shard, reply: Any, wanted: int, state: bytes
    ) -> bool:
        if shard is self._shards.at(conn_id):
            self._ownership.move(conn_id, OwnerStep.CONFIRM)
        if not reply:
            self._registrar.taken_over(conn_id)
            return True
        self._ownership.registrations.move(conn_id, shard.index, RegistrationStep.REGISTER)
        count, is_whole = reply
        if count < wanted or not is_whole:
            await self._restore_rest(conn_id, shard, state)
        return True

    async def _restore(
        self, shard: Shard, membership: Membership, channels: Sequence[Any], state: bytes, whole: bool
    ) -> Any:
        directory = self._shards.at(membership.member.conn_id)
        return await shard.client.step(
            "restore",
            **self._registrar.identity(membership.member),
            dir=shard is directory,
            home=self._shards.at(membership.member.user) is shard,
            channels=channels,
            whole=whole,
            private=codec.encode_read_range(membership.private),
            shards=self._other_shards(membership),
            bounds=self._bounds,
            blob=state,
        )

    async def _restore_rest(self, conn_id: str, shard: Shard, state: bytes) -> None:
        """Restore a connection with very many channels in a shard.

        First join the channels that the shard lacks, then leave those that the connection no longer has.

        Each call is built from the channels that the connection has at that moment, and nothing is awaited
        before the call is sent. So the shard receives these calls, and the calls that change the channels, in
        the order in which they were made.
        """
        registered = {name.decode() for name in await shard.scans.fields("kc", conn_id)}
        while (membership := self._registrar.receiver.membership(conn_id)) is not None:
            missing = [
                name
                for name in self._registrar.channels_in(shard, membership.channels)
                if name not in registered
            ][:CHUNK]
            extra = sorted(registered - membership.channels.keys())[:CHUNK]
            if missing:
                joins: list[Any] = [
                    (name, {}, codec.encode_read_range(membership.channels[name])) for name in missing
                ]
                reply = await self._restore(shard, membership, joins, state, whole=False)
                if not reply:
                    self._registrar.taken_over(conn_id)
                    return
                registered.update([] if reply == AGAIN else missing[: reply[0]])
            elif extra:
                reply = await shard.client.step(
                    "leave", **self._registrar.identity(membership.member), known=True, channels=extra
                )
                registered.difference_update([] if reply == AGAIN else extra)
            else:
                return

    def _other_shards(self, membership: Membership) -> str:
        """Return the shards to list in the directory: all that register the connection, or are about to.

        This includes a shard in which the connection is leaving its last channel. That shard registers the
        connection until the shard has confirmed the leave.
        """
        conn_id = membership.member.conn_id
        shards = self._registrar.registered_shards(conn_id, membership.member.user, membership.channels)
        return " ".join(str(shard.index) for shard in shards if shard is not self._shards.at(conn_id))

    async def send_states(self, shard: Shard) -> None:
        """Send a shard the states of users that changed while it was out of reach."""
        for user in sorted(shard.pending_state):
            with suppress(Unavailable):  # The home of the user may be out of reach too.
                await shard.client.send_paced(
                    "follow_state", user=user, blob=await self._shards.state_for(user, [shard])
                )
                shard.pending_state.discard(user)

    async def release_unowned(self, conn_id: str, shard: Shard) -> None:
        """Release a connection in a shard, unless this node has the connection or is claiming it."""
        while not self._ownership.is_ours(conn_id):
            if await shard.client.step("disconnect", conn_id=conn_id, node=self._registrar.node) != AGAIN:
                return
