"""The connections of a node, and which shards count them: that of the id, which knows who holds it, that of the user, and
those of the channels.

Each shard counts by itself, and a connection as long as any node holds it there; so steps that fail, or overtake each other,
leave nothing that the keepers do not set right (`reconciler.py`).
"""

import asyncio
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from channelstream.core.events import Dialect
from channelstream.core.position import Position, ReadRange, with_offset
from channelstream.engines.base import (
    Claim,
    Member,
    Membership,
    Receiver,
    RequestRelease,
    UserChange,
    UserUpdate,
)
from channelstream.engines.redis import codec
from channelstream.engines.redis.link import OUT_OF_REACH
from channelstream.engines.redis.registration_index import RegistrationIndex
from channelstream.engines.redis.shard import AGAIN, CHUNK, NodeContext, Shard
from channelstream.engines.redis.shards import Shards, gather_all, refusal_in
from channelstream.errors import Moved, Unavailable

MOVED_FIELD = 4
"""Where the answer to `claim` has what was moved; a shorter one says that nothing was."""
SUSPECTED_AT_ONCE = 1000
"""Connections looked at before other work has its turn."""


@dataclass(slots=True)
class _Reserved:
    """The shards that count a connection for this node as well, which is about to take it over.

    Attributes:
        owner: the node that speaks for it until then.
        parts: what each shard has said of it.
    """

    owner: str = ""
    replies: dict[Shard, Any] = field(default_factory=dict)


class Connections:
    """What the engine port says of connections."""

    receiver: Receiver

    def __init__(self, shards: Shards, node: NodeContext, bounds: Mapping[str, Any]) -> None:
        self.node = node.name
        self.label = node.label
        self._shards = shards
        self._bounds = bounds
        self._registrations = RegistrationIndex(len(shards))
        self._claiming: set[str] = set()
        self._suspected: set[str] = set()

    # -- what reconcilers ask

    def count_matches(self, shard: Shard, count: int) -> bool:
        """Say whether a shard seems to count the connections of this node, and no others."""
        has_stale = self._registrations.has_stale(self.receiver.local_connections())
        return not has_stale and count == self._registrations.counts[shard.index]

    async def drop_stale(self) -> None:
        """Forget which shards count the connections that this node holds no longer."""
        if not self._registrations.has_stale(self.receiver.local_connections()):
            return
        for batch in self._registrations.batches():
            for conn_id in batch:
                if not self.is_ours(conn_id):
                    self._forget(conn_id)
            await asyncio.sleep(0)

    def registered_in(self, shard: Shard) -> Iterator[list[str]]:
        """Yield the ids of the connections of this node that a shard should count, some at a time."""
        return self._registrations.batches_in(shard.index)

    def should_register(self, shard: Shard, conn_id: str) -> bool:
        """Say whether a shard should count a connection for this node."""
        return self._registrations.has(conn_id, shard.index)

    def is_ours(self, conn_id: str) -> bool:
        """Whether this node holds a connection, or is about to."""
        return conn_id in self.receiver.local_connections() or conn_id in self._claiming

    async def suspect(self, shard: Shard) -> None:
        """Be unsure of what a shard that was out of reach counts for this node: another one may have it by now."""
        everything = iter(list(self.receiver.local_connections()))
        while batch := list(islice(everything, SUSPECTED_AT_ONCE)):
            local = self.receiver.local_connections()
            self._suspected.update(
                conn_id for conn_id in batch if conn_id in local and self._shards.at(conn_id) is shard
            )
            await asyncio.sleep(0)

    def confirm(self, conn_ids: Iterable[str], shard: Shard) -> None:
        """Be sure of connections that a shard counts for this node, as far as it is the one that would know."""
        self._suspected -= {conn_id for conn_id in conn_ids if self._shards.at(conn_id) is shard}

    def owns(self, conn_id: str) -> bool:
        return conn_id not in self._suspected and self._shards.at(conn_id).is_linked

    async def restore(self, conn_id: str, shard: Shard) -> None:
        """Let a shard count a connection of this node as it is, after it was forgotten or its last change failed."""
        if shard is not self._shards.at(conn_id) and not self.owns(conn_id):
            # Another node may have it by now, in other channels: later.
            shard.unconfirmed.add(conn_id)
            return
        while not await self._restore_once(conn_id, shard):
            pass

    async def _restore_once(self, conn_id: str, shard: Shard) -> bool:
        """Return whether it is done; where the script was not done, the connection may have changed meanwhile."""
        state = b""
        membership = self.receiver.membership(conn_id)
        if membership is not None and self._channels_in(shard, membership.channels):
            state = await self._shards.state_for(membership.member.user, [shard])
            # It may have left or joined meanwhile, or gone; from here on calls to the shard keep their order.
            membership = self.receiver.membership(conn_id)
        if membership is None:
            self._suspected.discard(conn_id)
            return True
        channels_here: list[Any] = [
            (name, {}, codec.encode_read_range(membership.channels[name]))
            for name in self._channels_in(shard, membership.channels)
        ]
        if not (channels_here or self._is_permanent(shard, membership.member)):
            await self._unregister(shard, conn_id)
            return True
        reply = await self._restore(
            shard, membership, channels_here[:CHUNK], state, whole=len(channels_here) <= CHUNK
        )
        return reply != AGAIN and await self._finish_restore(conn_id, shard, reply, len(channels_here), state)

    async def _finish_restore(
        self, conn_id: str, shard: Shard, reply: Any, wanted: int, state: bytes
    ) -> bool:
        if shard is self._shards.at(conn_id):
            self._suspected.discard(conn_id)
        if not reply:
            self.taken_over(conn_id)
            return True
        self._registrations.add(conn_id, shard.index)
        count, is_whole = reply
        if count < wanted or not is_whole:
            await self._restore_rest(conn_id, shard, state)
        return True

    async def _restore(
        self, shard: Shard, membership: Membership, channels: Sequence[Any], state: bytes, whole: bool
    ) -> Any:
        directory = self._shards.at(membership.member.conn_id)
        return await shard.step(
            "restore",
            **self._identity(membership.member),
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
        """Restore a connection in very many channels: join those that are not counted, then leave those that should not be.

        Each call is made for what the connection is in at that moment, so that it keeps its order with those that change it.
        """
        registered = {name.decode() for name in await shard.fields("kc", conn_id)}
        while (membership := self.receiver.membership(conn_id)) is not None:
            missing = [
                name for name in self._channels_in(shard, membership.channels) if name not in registered
            ][:CHUNK]
            extra = sorted(registered - membership.channels.keys())[:CHUNK]
            if missing:
                joins: list[Any] = [
                    (name, {}, codec.encode_read_range(membership.channels[name])) for name in missing
                ]
                reply = await self._restore(shard, membership, joins, state, whole=False)
                if not reply:
                    self.taken_over(conn_id)
                    return
                registered.update([] if reply == AGAIN else missing[: reply[0]])
            elif extra:
                reply = await shard.step(
                    "leave", **self._identity(membership.member), known=True, channels=extra
                )
                registered.difference_update([] if reply == AGAIN else extra)
            else:
                return

    def _other_shards(self, membership: Membership) -> str:
        """Return the shards that count a connection, or are about to, but for that of its id.

        One that has only channels which the connection is just leaving counts it until it has said otherwise.
        """
        conn_id = membership.member.conn_id
        shards = self._registered_shards(conn_id, membership.member.user, membership.channels)
        return " ".join(str(shard.index) for shard in shards if shard is not self._shards.at(conn_id))

    def _registered_shards(self, conn_id: str, user: str, channels: Iterable[str]) -> list[Shard]:
        """Return the shards that count a connection with this user and these channels, or may do so."""
        known = map(self._shards.by_index, self._registrations.shards(conn_id))
        return list(dict.fromkeys((*self._shards.split((conn_id, user, *channels)), *known)))

    def _channels_in(self, shard: Shard, channels: Iterable[str]) -> list[str]:
        return [name for name in channels if self._shards.at(name) is shard]

    async def send_states(self, shard: Shard) -> None:
        """Tell a shard what it has missed of the states of users."""
        for user in sorted(shard.pending_state):
            with suppress(Unavailable):  # The user's own shard may be out of reach as well.
                await shard.send_paced(
                    "follow_state", user=user, blob=await self._shards.state_for(user, [shard])
                )
                shard.pending_state.discard(user)

    def taken_over(self, conn_id: str) -> None:
        """Hear that another node speaks for a connection."""
        self._forget(conn_id)
        self.receiver.taken_over(conn_id)

    def _forget(self, conn_id: str) -> None:
        """Keep nothing of a connection that this node does not hold any more."""
        self._registrations.forget(conn_id)
        self._suspected.discard(conn_id)
        for shard in self._shards:
            shard.unconfirmed.discard(conn_id)

    # -- coming and going

    async def connect(self, member: Member, update: UserUpdate, since: Position | None) -> UserChange | None:
        home, directory = self._shards.at(member.user), self._shards.at(member.conn_id)
        await home.subscribe([f"#u:{member.user}"])
        try:
            if directory is not home and not await self._reserve_id(directory, home, member):
                return None
            return await self._connect_user(home, member, update, since)
        except BaseException:  # Cancelled as well: a shard may have counted it in.
            await self._undo_connect(member)
            raise

    async def _reserve_id(self, directory: Shard, home: Shard, member: Member) -> bool:
        """Return whether nobody has the id of a new connection, which is this node's from then on."""
        reply = await directory.call(
            "connect", **self._identity(member), dir=True, home=False, shards=str(home.index)
        )
        if reply == b"taken":
            return False
        self._registrations.add(member.conn_id, directory.index)
        return True

    async def _connect_user(
        self, home: Shard, member: Member, update: UserUpdate, since: Position | None
    ) -> UserChange | None:
        reply = await home.call(
            "connect",
            **self._identity(member),
            dir=self._shards.at(member.conn_id) is home,
            home=True,
            shards="",
            update=codec.write_update(update),
            since=self._since_offset(since, home),
            bounds=self._bounds,
        )
        if reply == b"taken":
            return None
        if refusal_in(reply) is None:
            self._registrations.add(member.conn_id, home.index)
        return await self._shards.propagate(home, reply)

    async def _undo_connect(self, member: Member) -> None:
        """Count out a connection that could not be counted in; where that fails too, a reconciler will do it."""
        registered = self._registered_shards(member.conn_id, member.user, ())
        self._forget(member.conn_id)
        await self._release(member.conn_id, registered)

    async def disconnect(self, member: Member, channels: Sequence[str]) -> None:
        directory = self._shards.at(member.conn_id)
        registered = self._registered_shards(member.conn_id, member.user, channels)
        self._forget(member.conn_id)
        # What a shard that is out of reach still counts is counted out when it is back.
        others = [shard for shard in registered if shard is not directory]
        ended = directory.call("disconnect", conn_id=member.conn_id, node=self.node)
        reply, _ = await gather_all([ended, self._release(member.conn_id, others)])
        if reply == b"gone":
            raise Moved

    async def _release(self, conn_id: str, shards: Iterable[Shard]) -> None:
        """Have shards count a connection for this node no longer; where that fails a reconciler will do it."""
        calls = (shard.call("disconnect", conn_id=conn_id, node=self.node) for shard in shards)
        for failure in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(failure, BaseException) and not isinstance(failure, Unavailable):
                raise failure

    async def release_unowned(self, conn_id: str, shard: Shard) -> None:
        """Have a shard count a connection for this node no longer, unless the node holds it by now."""
        while not self.is_ours(conn_id):
            if await shard.step("disconnect", conn_id=conn_id, node=self.node) != AGAIN:
                return

    # -- channels

    async def join(
        self, member: Member, channels: Mapping[str, Mapping[str, Any]], since: Position | None
    ) -> dict[str, int]:
        parts = self._shards.split(channels)
        if not all(shard.is_linked for shard in parts):
            # Before they are named as about to count it: without one of them the connection could not move.
            raise Unavailable(OUT_OF_REACH)
        try:
            state = await self._list_shards(member, parts)
            joined = await gather_all(
                self._join(shard, member, {name: channels[name] for name in names}, state, since)
                for shard, names in parts.items()
            )
        except BaseException:  # Cancelled as well: the shard may have done it.
            # And if it has not, the shard of the id must not go on naming it.
            self._mark_unconfirmed(member, (*parts, self._shards.at(member.conn_id)))
            raise
        return {name: offset for part in joined for name, offset in part.items()}

    async def _list_shards(self, member: Member, shards: Collection[Shard]) -> bytes:
        """Let the shard of a connection's id know which others are about to count it, and return its user's state for them.

        Only those are asked when it moves to another node (`claim`), so that it must know before they do.

        Raises:
            Moved: another node speaks for the connection by now.
        """
        directory, home = self._shards.at(member.conn_id), self._shards.at(member.user)
        new = [
            shard for shard in shards if shard is not directory and not self._is_listed(shard, member.conn_id)
        ]
        more = {"conn_id": member.conn_id, "node": self.node, "more": [str(shard.index) for shard in new]}
        if new and directory is home:
            state = await self._shards.state_for(member.user, shards, **more)
        else:
            reply = await directory.call("spread", **more, less=[]) if new else b""
            state = reply if reply == b"gone" else await self._shards.state_for(member.user, shards)
        if state == b"gone":
            raise Moved
        return state

    async def _join(
        self,
        shard: Shard,
        member: Member,
        channels: Mapping[str, Mapping[str, Any]],
        state: bytes,
        since: Position | None,
    ) -> dict[str, int]:
        """Join channels of one shard, in as many calls as it takes; those of a call are joined at one number."""
        new = set(await shard.subscribe([f"#c:{name}" for name in channels]))
        wanted, joined = list(channels.items()), dict[str, int]()
        while len(joined) < len(wanted):
            batch = wanted[len(joined) : len(joined) + CHUNK]
            reply = await shard.call(
                "join",
                **self._identity(member),
                known=self._is_permanent(shard, member),
                channels=[(name, dict(patch)) for name, patch in batch],
                since=self._since_offset(since, shard),
                bounds=self._bounds,
                blob=state,
            )
            if reply == b"gone":
                raise Moved
            self._registrations.add(member.conn_id, shard.index)
            offset, done = int(reply[0]), [name for name, _ in batch[: reply[1]]]
            shard.mark_complete([f"#c:{name}" for name in done if f"#c:{name}" in new], offset)
            joined |= dict.fromkeys(done, offset)
        return joined

    async def leave(self, member: Member, channels: Sequence[str]) -> None:
        parts = self._shards.split(channels)
        try:
            await gather_all(self._leave(shard, member, names) for shard, names in parts.items())
        except BaseException:  # Cancelled as well: the shard may have done it.
            self._mark_unconfirmed(member, parts)
            raise

    async def _leave(self, shard: Shard, member: Member, channels: list[str]) -> None:
        is_permanent = self._is_permanent(shard, member)
        reply = 1
        for start in range(0, len(channels), CHUNK):
            batch = channels[start : start + CHUNK]
            reply = await shard.call("leave", **self._identity(member), known=is_permanent, channels=batch)
            if reply == b"gone":
                raise Moved
        if not reply:
            await self._unregister(shard, member.conn_id)

    async def _unregister(self, shard: Shard, conn_id: str) -> None:
        """Have a shard count a connection no longer that is in none of its channels, and is neither of its id nor its user.

        The shard of its id ceases to name it first: what is named and does not count the connection has lost it (`claim`).
        Where either is out of reach, the shard goes on counting the connection until a reconciler comes.
        """
        # From here on a join has the shard named again.
        self._registrations.discard(conn_id, shard.index)
        less = {"conn_id": conn_id, "node": self.node, "less": [str(shard.index)]}
        try:
            await self._shards.at(conn_id).call("spread", **less, more=[])
            while not self._has_channels_in(shard, conn_id):
                if await shard.step("disconnect", conn_id=conn_id, node=self.node) != AGAIN:
                    return
            # It has joined a channel there meanwhile, or is about to.
            shard.unconfirmed.add(conn_id)
        except BaseException as error:
            if self.is_ours(conn_id):
                self._registrations.add(conn_id, shard.index)
                shard.unconfirmed.add(conn_id)
            if not isinstance(error, Unavailable):
                raise

    def _has_channels_in(self, shard: Shard, conn_id: str) -> bool:
        """Whether a connection of this node is in channels of a shard, or is about to be."""
        membership = self.receiver.membership(conn_id)
        return membership is not None and bool(self._channels_in(shard, membership.channels))

    def _is_listed(self, shard: Shard, conn_id: str) -> bool:
        """Whether the shard of a connection's id certainly names another one that counts it."""
        return self.should_register(shard, conn_id) and conn_id not in shard.unconfirmed

    def _is_permanent(self, shard: Shard, member: Member) -> bool:
        """Whether a shard counts a connection even without any channel."""
        return shard in (self._shards.at(member.conn_id), self._shards.at(member.user))

    def _mark_unconfirmed(self, member: Member, shards: Iterable[Shard]) -> None:
        """Have the channels of a connection set right after a change of which a part may have failed."""
        for shard in shards if self.is_ours(member.conn_id) else ():
            shard.unconfirmed.add(member.conn_id)

    def _since_offset(self, since: Position | None, shard: Shard) -> int | bool:
        """Return the number a position has in a shard, as the script takes it; False where none was named."""
        return False if since is None else since.offset_in(self._shards.epochs, shard.index)

    def _identity(self, member: Member) -> dict[str, Any]:
        is_seed = member.dialect is Dialect.SEED
        return {"conn_id": member.conn_id, "node": self.node, "user": member.user, "seed": is_seed}

    # -- from another node

    async def claim(self, conn_id: str, orphan: bool, request_release: RequestRelease) -> Claim | None:
        self._claiming.add(conn_id)
        try:
            return await self._claim(conn_id, orphan, request_release)
        finally:
            self._claiming.discard(conn_id)

    async def _claim(self, conn_id: str, orphan: bool, request_release: RequestRelease) -> Claim | None:
        reserved = _Reserved()
        moved = None
        try:
            moved = await self._move_directory(conn_id, orphan, request_release, reserved)
        finally:
            if moved is None and reserved.owner != self.node:
                await self._release(conn_id, reserved.replies)
        if moved is None:
            return None
        previous, user, seed, listed, part = moved
        others = [self._shards.by_index(index) for index in listed.split()]
        # The connection has left its last channel in the rest meanwhile, and nobody would ask them again.
        await self._release(conn_id, reserved.replies.keys() - set(others))
        moved_parts = await self._move_others(
            conn_id, previous.decode(), {shard: reserved.replies[shard] for shard in others}
        )
        parts = {self._shards.at(conn_id): part} | moved_parts
        return await self._finish_claim(
            Member(conn_id, user.decode(), Dialect.SEED if seed else Dialect.V07), parts
        )

    async def _move_directory(
        self, conn_id: str, orphan: bool, request_release: RequestRelease, reserved: "_Reserved"
    ) -> Sequence[Any] | None:
        """Speak for a connection once all other shards that count it do so for this node, too; None: it is unknown.

        Raises:
            Unavailable: one of them is out of reach.
        """
        directory, about = self._shards.at(conn_id), {"conn_id": conn_id, "node": self.node}
        sure: list[str] | bool = False
        if len(self._shards) == 1:
            await request_release()
            sure = []
        while True:
            reply: Any = await directory.call("claim", **about, orphan=orphan, sure=sure)
            if reply == b"held":
                raise Moved
            if reply is None or len(reply) > MOVED_FIELD:
                return reply  # type: ignore[no-any-return]
            reserved.owner = reply[0].decode()
            shards = [self._shards.by_index(index) for index in reply[MOVED_FIELD - 1].split()]
            await self._reserve([shard for shard in shards if shard not in reserved.replies], about, reserved)
            if sure is False:
                await request_release()
            sure = [str(shard.index) for shard in reserved.replies]

    async def _reserve(
        self, shards: Sequence[Shard], about: Mapping[str, str], reserved: "_Reserved"
    ) -> None:
        calls = (shard.call("reserve", **about) for shard in shards)
        replies = await asyncio.gather(*calls, return_exceptions=True)
        failures = [reply for reply in replies if isinstance(reply, BaseException)]
        reserved.replies |= dict.fromkeys(shards) if failures else dict(zip(shards, replies, strict=True))
        if failures:
            raise failures[0]

    async def _move_others(
        self, conn_id: str, previous: str, reserved: Mapping[Shard, Any]
    ) -> dict[Shard, Any]:
        """Have other shards count a connection for this node alone; of one out of reach by now counts what it has said."""
        follow = {"conn_id": conn_id, "node": self.node, "from": previous}
        calls = (shard.call("follow", **follow) for shard in reserved)
        moved_parts: dict[Shard, Any] = {}
        for shard, reply in zip(reserved, await asyncio.gather(*calls, return_exceptions=True), strict=True):
            if isinstance(reply, BaseException) and not isinstance(reply, Unavailable):
                raise reply
            moved_parts[shard] = reserved[shard] if isinstance(reply, Unavailable) else reply
        return moved_parts

    async def _finish_claim(self, member: Member, parts: Mapping[Shard, Any]) -> Claim:
        home = self._shards.at(member.user)
        await home.subscribe([f"#u:{member.user}"])
        channels: dict[str, ReadRange] = {}
        private: ReadRange | None = None
        offsets = self._shards.offsets
        for shard, (connected, joined) in ((shard, reply) for shard, reply in parts.items() if reply):
            self._registrations.add(member.conn_id, shard.index)
            found = await shard.fields("kc", member.conn_id) if joined is None else dict(codec.pairs(joined))
            channels_here = {name.decode(): codec.decode_read_range(text) for name, text in found.items()}
            await shard.subscribe([f"#c:{name}" for name in channels_here])
            private = codec.decode_read_range(connected) if connected else private
            begins = [*channels_here.values(), *([codec.decode_read_range(connected)] if connected else ())]
            offsets = with_offset(
                offsets,
                shard.index,
                min([offsets[shard.index], *(read_range.joined for read_range in begins)]),
            )
            channels |= channels_here
        if private is None:
            home.unconfirmed.add(member.conn_id)
        # A shard that should count it and knows nothing of it has lost what it knew.
        return Claim(member, channels, private, offsets, is_whole=all(parts.values()))
