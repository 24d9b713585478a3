"""Moves the ownership of a connection to this node.

A claim has five steps. With a single shard only steps 3 and 4 remain:

1. Read the owner and the list of shards from the directory.
2. Reserve the connection in every listed shard.
3. Ask the owner to release the stream.
4. Change the owner in the directory.
5. Remove the former owner's registration in the listed shards.

If the claim fails before step 4, the owner does not change. The script of step 4 first compares the
directory's list with the reserved shards. The owner may meanwhile have joined a channel in a further shard.
Then the script changes nothing. The node reserves the connection in that shard too, and repeats step 4. After
step 4 the claim succeeds, even if no shard answers in step 5. A shard that is out of reach in step 5 keeps
the registrations of both nodes for now. Later the former owner releases its registration (`reconciler.py`).
If the former owner has died, the node that reaps it removes this registration with all others of the dead
node.

The first rules of `connections.py` say why no step leaves a harmful state behind.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from channelstream.core.client_protocol import ClientProtocol, PresenceAudience
from channelstream.core.position import ReadRange, with_offset
from channelstream.engines.cluster import Claim, RequestRelease
from channelstream.engines.members import Member
from channelstream.engines.redis import codec
from channelstream.engines.redis.ownership import OwnerStep
from channelstream.engines.redis.registrar import Registrar
from channelstream.engines.redis.registration_index import RegistrationStep
from channelstream.engines.redis.shard import Shard
from channelstream.engines.redis.shards import Shards, results_and_errors
from channelstream.errors import Moved, Unavailable

MOVED_FIELD = 5
"""Index of the moved registration in the reply to `claim`. It is missing if the owner has not changed."""


@dataclass(slots=True)
class _Reserved:
    """The shards in which this node has reserved a connection that it is claiming.

    They register the connection for the owner and for this node.

    Attributes:
        owner: the owner until the claim succeeds.
        replies: the registration that each of these shards has returned; None where the outcome is unknown.
    """

    owner: str = ""
    replies: dict[Shard, Any] = field(default_factory=dict)


class Claims:
    """Claims connections for this node."""

    def __init__(self, shards: Shards, registrar: Registrar) -> None:
        self._shards = shards
        self._registrar = registrar
        self._ownership = registrar.ownership

    async def claim(self, conn_id: str, orphan: bool, request_release: RequestRelease) -> Claim | None:
        # The reconciler must not release the reservations as unowned.
        self._ownership.move(conn_id, OwnerStep.CLAIM)
        outcome = OwnerStep.FAIL_CLAIM
        try:
            claim = await self._claim(conn_id, orphan, request_release)
            outcome = OwnerStep.FAIL_CLAIM if claim is None else OwnerStep.CLAIMED
            return claim
        finally:
            self._ownership.move(conn_id, outcome)

    async def _claim(self, conn_id: str, orphan: bool, request_release: RequestRelease) -> Claim | None:
        reserved = _Reserved()
        moved = None
        try:
            moved = await self._move_directory(conn_id, orphan, request_release, reserved)
        finally:
            # If the directory names this node, an earlier claim has succeeded, and its answer was lost. Then
            # keep all reservations.
            if moved is None and reserved.owner != self._registrar.node:
                await self._registrar.release(conn_id, reserved.replies)
        if moved is None:
            return None
        previous, user, protocol, always, listed, part = moved
        others = [self._shards.by_index(index) for index in listed.split()]
        # In some shards the connection may be reserved although the directory no longer lists them: the
        # connection has meanwhile left its last channel there. No list names these shards, so a later owner
        # would not find them. So this node releases the connection there.
        await self._registrar.release(conn_id, reserved.replies.keys() - set(others))
        moved_parts = await self._move_others(
            conn_id, previous.decode(), {shard: reserved.replies[shard] for shard in others}
        )
        parts = {self._shards.at(conn_id): part} | moved_parts
        return await self._subscribed(
            Member(conn_id, user.decode(), ClientProtocol(protocol.decode(), PresenceAudience(int(always)))),
            parts,
        )

    async def _move_directory(
        self, conn_id: str, orphan: bool, request_release: RequestRelease, reserved: "_Reserved"
    ) -> Sequence[Any] | None:
        """Reserve the connection in all listed shards, then become its owner.

        Returns:
            The reply of the directory; None if the connection is unknown.

        Raises:
            Moved: `orphan` was given, and the owner lives.
            Unavailable: one of the shards is out of reach.
        """
        directory, about = self._shards.at(conn_id), {"conn_id": conn_id, "node": self._registrar.node}
        sure: list[str] | bool = False
        if len(self._shards) == 1:
            await request_release()
            sure = []
        while True:
            reply: Any = await directory.client.call("claim", **about, orphan=orphan, sure=sure)
            if reply == b"held":
                raise Moved
            if reply is None or len(reply) > MOVED_FIELD:
                return reply  # type: ignore[no-any-return]
            reserved.owner = reply[0].decode()
            shards = [self._shards.by_index(index) for index in reply[MOVED_FIELD - 1].split()]
            await self._reserve([shard for shard in shards if shard not in reserved.replies], about, reserved)
            if sure is False:
                # The owner is asked only after all shards have answered: it must not drop the stream for a
                # claim that then fails in a shard.
                await request_release()
            sure = [str(shard.index) for shard in reserved.replies]

    async def _reserve(
        self, shards: Sequence[Shard], about: Mapping[str, str], reserved: "_Reserved"
    ) -> None:
        calls = (shard.client.call("reserve", **about) for shard in shards)
        replies, failures = results_and_errors(await asyncio.gather(*calls, return_exceptions=True))
        reserved.replies |= dict.fromkeys(shards) if failures else dict(zip(shards, replies, strict=True))
        if failures:
            raise failures.pop(0)

    async def _move_others(
        self, conn_id: str, previous: str, reserved: Mapping[Shard, Any]
    ) -> dict[Shard, Any]:
        """Remove the former owner's registration in the listed shards.

        Returns:
            The registration of the connection in each of these shards. If a shard is out of reach, this is
            the registration that it has returned to `reserve`.
        """
        follow = {"conn_id": conn_id, "node": self._registrar.node, "from": previous}
        calls = (shard.client.call("follow", **follow) for shard in reserved)
        moved_parts: dict[Shard, Any] = {}
        for shard, reply in zip(reserved, await asyncio.gather(*calls, return_exceptions=True), strict=True):
            if isinstance(reply, BaseException) and not isinstance(reply, Unavailable):
                raise reply
            moved_parts[shard] = reserved[shard] if isinstance(reply, Unavailable) else reply
        return moved_parts

    async def _subscribed(self, member: Member, parts: Mapping[Shard, Any]) -> Claim:
        """Subscribe to all that the connection receives, and return what it had read."""
        home = self._shards.at(member.user)
        channels: dict[str, ReadRange] = {}
        private: ReadRange | None = None
        offsets = self._shards.offsets
        with ExitStack() as held:
            await _subscribe(home, [f"#u:{member.user}"], held)
            for shard, part in parts.items():
                if not part:
                    continue
                self._ownership.registrations.move(member.conn_id, shard.index, RegistrationStep.REGISTER)
                own, joined = await _ranges(shard, member.conn_id, part)
                await _subscribe(shard, [f"#c:{name}" for name in joined], held)
                channels |= joined
                begins = [read_range.joined for read_range in joined.values()]
                if own is not None:
                    private = own
                    begins.append(own.joined)
                offsets = with_offset(offsets, shard.index, min([offsets[shard.index], *begins]))
        if private is None:
            self._ownership.registrations.move(member.conn_id, home.index, RegistrationStep.FAIL)
        # If a listed shard does not know the connection, that shard has lost its data.
        return Claim(member, channels, private, offsets, is_whole=all(parts.values()))


async def _subscribe(shard: Shard, topics: Sequence[str], held: ExitStack) -> None:
    """Subscribe, and stay subscribed as long as the topics are held."""
    held.enter_context(shard.subscriber.hold(topics))
    await shard.subscriber.subscribe(topics)


async def _ranges(shard: Shard, conn_id: str, part: Any) -> tuple[ReadRange | None, dict[str, ReadRange]]:
    """Return what a connection has read of its private messages, and of its channels, as a shard has registered it."""
    connected, joined = part
    found = await shard.scans.fields("kc", conn_id) if joined is None else dict(codec.pairs(joined))
    channels = {name.decode(): codec.decode_read_range(text) for name, text in found.items()}
    return codec.decode_read_range(connected) if connected else None, channels
