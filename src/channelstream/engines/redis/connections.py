"""The connections of a node, and which shards count them: that of the id, which knows who holds it, that of the user, and
those of the channels.

Each shard counts by itself, and a connection as long as any node holds it there; so steps that fail, or overtake each other,
leave nothing that the keepers do not set right (`reconciler.py`).
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

from channelstream.core.events import Dialect
from channelstream.core.position import Position, Reach, replaced
from channelstream.engines.base import Claim, Member, Membership, Receiver, UserChange, UserUpdate
from channelstream.engines.redis import codec
from channelstream.engines.redis.shard import CHUNK, Common, Shard
from channelstream.engines.redis.shards import Shards, side_by_side
from channelstream.engines.redis.stakes import Stakes
from channelstream.errors import Invalid, Moved, Unavailable

DOUBTED_AT_ONCE = 1000
"""Connections looked at before other work has its turn."""


class Connections:
    """What the engine port says of connections."""

    receiver: Receiver

    def __init__(self, shards: Shards, node: Common, bounds: Mapping[str, Any]) -> None:
        self.node = node.name
        self.label = node.label
        self._shards = shards
        self._bounds = bounds
        self._stakes = Stakes(len(shards))
        self._claiming: set[str] = set()
        self._unsure: set[str] = set()

    # -- what reconcilers ask

    def is_counted_right(self, shard: Shard, count: int) -> bool:
        """Say whether a shard seems to count the connections of this node, and no others."""
        has_ghosts = self._stakes.has_ghosts(self.receiver.held())
        return not has_ghosts and count == self._stakes.counts[shard.index]

    async def forget_ghosts(self) -> None:
        """Forget which shards count the connections that this node holds no longer."""
        if not self._stakes.has_ghosts(self.receiver.held()):
            return
        for some in self._stakes.known():
            for conn_id in some:
                if not self.is_ours(conn_id):
                    self._stakes.forget(conn_id)
            await asyncio.sleep(0)

    def held_in(self, shard: Shard) -> Iterator[list[str]]:
        """Yield the ids of the connections of this node that a shard should count, some at a time."""
        return self._stakes.of(shard.index)

    def should_count(self, shard: Shard, conn_id: str) -> bool:
        """Say whether a shard should count a connection for this node."""
        return self._stakes.has(conn_id, shard.index)

    def is_ours(self, conn_id: str) -> bool:
        """Whether this node holds a connection, or is about to."""
        return conn_id in self.receiver.held() or conn_id in self._claiming

    async def doubt(self, shard: Shard) -> None:
        """Be unsure of what a shard that was out of reach counts for this node: another one may have it by now."""
        held = iter(list(self.receiver.held()))
        while some := list(islice(held, DOUBTED_AT_ONCE)):
            self._unsure.update(conn_id for conn_id in some if self._shards.at(conn_id) is shard)
            await asyncio.sleep(0)

    def confirm(self, conn_ids: Iterable[str], shard: Shard) -> None:
        """Be sure of connections that a shard counts for this node, as far as it is the one that would know."""
        self._unsure -= {conn_id for conn_id in conn_ids if self._shards.at(conn_id) is shard}

    def is_sure(self, conn_id: str) -> bool:
        return conn_id not in self._unsure and self._shards.at(conn_id).is_linked

    async def restore(self, conn_id: str, shard: Shard) -> None:
        """Let a shard count a connection of this node as it is, after it was forgotten or its last change failed."""
        directory = self._shards.at(conn_id)
        if shard is not directory and not self.is_sure(conn_id):
            # Another node may have it by now, in other channels: later.
            shard.doubtful.add(conn_id)
            return
        held = self.receiver.membership(conn_id)
        state = b""
        if held is not None and self._in(shard, held.channels):
            state = await self._shards.state_for(held.member.user, [shard])
            # It may have left or joined meanwhile, or gone; from here on calls to the shard keep their order.
            held = self.receiver.membership(conn_id)
        if held is None:
            self._unsure.discard(conn_id)
            return
        member, channels = held.member, held.channels
        mine: list[Any] = [
            (name, {}, codec.write_reach(channels[name])) for name in self._in(shard, channels)
        ]
        if not (mine or self._is_known(shard, member)):
            self._stakes.discard(conn_id, shard.index)
            await shard.call("disconnect", conn_id=conn_id, node=self.node)
            return
        told = await self._restore(shard, held, mine[:CHUNK], state, whole=len(mine) <= CHUNK)
        if shard is directory:
            self._unsure.discard(conn_id)
        if not told:
            self.yielded(conn_id)
            return
        self._stakes.add(conn_id, shard.index)
        count, is_whole = told
        if count < len(mine) or not is_whole:
            await self._restore_rest(conn_id, shard, state)

    async def _restore(
        self, shard: Shard, held: Membership, channels: Sequence[Any], state: bytes, whole: bool
    ) -> Any:
        return await shard.call(
            "restore",
            **self._of(held.member),
            dir=shard is self._shards.at(held.member.conn_id),
            home=self._shards.at(held.member.user) is shard,
            channels=channels,
            whole=whole,
            private=codec.write_reach(held.private),
            epochs=self._epochs,
            bounds=self._bounds,
            blob=state,
        )

    async def _restore_rest(self, conn_id: str, shard: Shard, state: bytes) -> None:
        """Restore a connection in very many channels: join those that are not counted, then leave those that should not be.

        Each call is made for what the connection is in at that moment, so that it keeps its order with those that change it.
        """
        counted = {name.decode() for name in await shard.fields("kc", conn_id)}
        while (held := self.receiver.membership(conn_id)) is not None:
            missing = [name for name in self._in(shard, held.channels) if name not in counted][:CHUNK]
            extra = sorted(counted - held.channels.keys())[:CHUNK]
            if missing:
                joins: list[Any] = [(name, {}, codec.write_reach(held.channels[name])) for name in missing]
                told = await self._restore(shard, held, joins, state, whole=False)
                if not told:
                    self.yielded(conn_id)
                    return
                counted.update(missing[: told[0]])
            elif extra:
                await shard.call("leave", **self._of(held.member), known=True, channels=extra)
                counted.difference_update(extra)
            else:
                return

    def _in(self, shard: Shard, channels: Iterable[str]) -> list[str]:
        return [name for name in channels if self._shards.at(name) is shard]

    async def tell_states(self, shard: Shard) -> None:
        """Tell a shard what it has missed of the states of users."""
        for user in sorted(shard.untold):
            with suppress(Unavailable):  # The user's own shard may be out of reach as well.
                await shard.call("follow_state", blob=await self._shards.state_for(user, [shard]))
                shard.untold.discard(user)

    def yielded(self, conn_id: str) -> None:
        """Hear that another node speaks for a connection."""
        self._stakes.forget(conn_id)
        self._unsure.discard(conn_id)
        self.receiver.yielded(conn_id)

    # -- coming and going

    async def connect(self, member: Member, update: UserUpdate, since: Position | None) -> UserChange | None:
        home, directory = self._shards.at(member.user), self._shards.at(member.conn_id)
        await home.watch([f"#u:{member.user}"])
        if directory is not home:
            told = await directory.call(
                "connect", **self._of(member), dir=True, home=False, epochs=self._epochs
            )
            if told == b"taken":
                return None
            self._stakes.add(member.conn_id, directory.index)
        try:
            return await self._connect_user(home, member, update, since)
        except (Unavailable, Invalid):
            await self._take_back(member)
            raise

    async def _connect_user(
        self, home: Shard, member: Member, update: UserUpdate, since: Position | None
    ) -> UserChange | None:
        told = await home.call(
            "connect",
            **self._of(member),
            dir=self._shards.at(member.conn_id) is home,
            home=True,
            epochs=self._epochs,
            update=codec.write_update(update),
            since=self._named(since, home),
            bounds=self._bounds,
        )
        if told == b"taken":
            return None
        if told != b"full":
            self._stakes.add(member.conn_id, home.index)
        return await self._shards.changed(home, told)

    async def _take_back(self, member: Member) -> None:
        """Count out a connection that could not be counted in; where that fails too, a reconciler will do it."""
        self._stakes.forget(member.conn_id)
        shards = self._shards.split([member.conn_id, member.user])
        if len(shards) > 1:
            calls = (shard.call("disconnect", conn_id=member.conn_id, node=self.node) for shard in shards)
            await asyncio.gather(*calls, return_exceptions=True)

    async def disconnect(self, member: Member, channels: Sequence[str]) -> None:
        self._stakes.forget(member.conn_id)
        shards = self._shards.split([member.conn_id, member.user, *channels])
        told = await side_by_side(
            shard.call("disconnect", conn_id=member.conn_id, node=self.node) for shard in shards
        )
        if b"gone" in told:
            raise Moved

    # -- channels

    async def join(
        self, member: Member, channels: Mapping[str, Mapping[str, Any]], since: Position | None
    ) -> dict[str, int]:
        parts = self._shards.split(channels)
        state = await self._shards.state_for(member.user, parts)
        try:
            joined = await side_by_side(
                self._join(shard, member, {name: channels[name] for name in names}, state, since)
                for shard, names in parts.items()
            )
        except BaseException:  # Cancelled as well: the shard may have done it.
            self._doubt(member, parts)
            raise
        return {name: seq for part in joined for name, seq in part.items()}

    async def _join(
        self,
        shard: Shard,
        member: Member,
        channels: Mapping[str, Mapping[str, Any]],
        state: bytes,
        since: Position | None,
    ) -> dict[str, int]:
        """Join channels of one shard, in as many calls as it takes; those of a call are joined at one number."""
        new = set(await shard.watch([f"#c:{name}" for name in channels]))
        wanted, joined = list(channels.items()), dict[str, int]()
        while len(joined) < len(wanted):
            some = wanted[len(joined) : len(joined) + CHUNK]
            answer = await shard.call(
                "join",
                **self._of(member),
                known=self._is_known(shard, member),
                channels=[(name, dict(patch)) for name, patch in some],
                since=self._named(since, shard),
                bounds=self._bounds,
                blob=state,
            )
            if answer == b"gone":
                raise Moved
            self._stakes.add(member.conn_id, shard.index)
            seq, done = int(answer[0]), [name for name, _ in some[: answer[1]]]
            shard.seen([f"#c:{name}" for name in done if f"#c:{name}" in new], seq)
            joined |= dict.fromkeys(done, seq)
        return joined

    async def leave(self, member: Member, channels: Sequence[str]) -> None:
        parts = self._shards.split(channels)
        try:
            await side_by_side(self._leave(shard, member, names) for shard, names in parts.items())
        except BaseException:  # Cancelled as well: the shard may have done it.
            self._doubt(member, parts)
            raise

    async def _leave(self, shard: Shard, member: Member, channels: list[str]) -> None:
        is_known = self._is_known(shard, member)
        told = 1
        for start in range(0, len(channels), CHUNK):
            some = channels[start : start + CHUNK]
            told = await shard.call("leave", **self._of(member), known=is_known, channels=some)
            if told == b"gone":
                raise Moved
        if not told:
            self._stakes.discard(member.conn_id, shard.index)

    def _is_known(self, shard: Shard, member: Member) -> bool:
        """Whether a shard counts a connection even without any channel."""
        return shard in (self._shards.at(member.conn_id), self._shards.at(member.user))

    def _doubt(self, member: Member, shards: Iterable[Shard]) -> None:
        """Have the channels of a connection set right after a change of which a part may have failed."""
        for shard in shards:
            shard.doubtful.add(member.conn_id)

    def _named(self, since: Position | None, shard: Shard) -> int | bool:
        """Return the number a position has in a shard, as the script takes it; False where none was named."""
        return False if since is None else since.number_in(self._shards.epochs, shard.index)

    @property
    def _epochs(self) -> str:
        return ".".join(self._shards.epochs)

    def _of(self, member: Member) -> dict[str, Any]:
        is_seed = member.dialect is Dialect.SEED
        return {"conn_id": member.conn_id, "node": self.node, "user": member.user, "seed": is_seed}

    # -- from another node

    async def claim(self, conn_id: str, orphan: bool) -> Claim | None:
        self._claiming.add(conn_id)
        try:
            return await self._claim(conn_id, orphan)
        finally:
            self._claiming.discard(conn_id)

    async def _claim(self, conn_id: str, orphan: bool) -> Claim | None:
        directory = self._shards.at(conn_id)
        told = await directory.call("claim", conn_id=conn_id, node=self.node, orphan=orphan)
        if told == b"held":
            raise Moved
        if told is None:
            return None
        before, user, seed, epochs, moved = told
        others = [shard for shard in self._shards if shard is not directory]
        follow = {"conn_id": conn_id, "node": self.node, "from": before.decode()}
        moves = [moved, *await side_by_side(shard.call("follow", **follow) for shard in others)]
        parts = {shard: each for shard, each in zip([directory, *others], moves, strict=True) if each}
        member = Member(conn_id, user.decode(), Dialect.SEED if seed else Dialect.V07)
        home = self._shards.at(member.user)
        await home.watch([f"#u:{member.user}"])
        if home not in parts:
            home.doubtful.add(conn_id)
        channels: dict[str, Reach] = {}
        private: Reach | None = None
        seqs = self._shards.seqs
        for shard, (connected, joined) in parts.items():
            self._stakes.add(conn_id, shard.index)
            found = await shard.fields("kc", conn_id) if joined is None else dict(codec.pairs(joined))
            mine = {name.decode(): codec.read_reach(text) for name, text in found.items()}
            await shard.watch([f"#c:{name}" for name in mine])
            private = codec.read_reach(connected) if connected else private
            begins = [*mine.values(), *([codec.read_reach(connected)] if connected else ())]
            seqs = replaced(seqs, shard.index, min([seqs[shard.index], *(reach.joined for reach in begins)]))
            channels |= mine
        then = epochs.decode().split(".")
        # A shard that knows nothing of it, and is another one than it was, may have known something.
        is_whole = all(shard in parts or then[shard.index] == shard.epoch for shard in self._shards)
        return Claim(member, channels, private, seqs, is_whole)
