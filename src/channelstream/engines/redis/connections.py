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
from channelstream.engines.base import Claim, Leave, Member, Membership, Receiver, UserChange, UserUpdate
from channelstream.engines.redis import codec
from channelstream.engines.redis.link import OUT_OF_REACH
from channelstream.engines.redis.registration_index import RegistrationIndex
from channelstream.engines.redis.shard import AGAIN, CHUNK, NodeContext, Shard
from channelstream.engines.redis.shards import Shards, gather_all, refusal_in
from channelstream.errors import Moved, Unavailable

MOVED_AT = 4
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
    parts: dict[Shard, Any] = field(default_factory=dict)


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
        self._unsure: set[str] = set()

    # -- what reconcilers ask

    def count_matches(self, shard: Shard, count: int) -> bool:
        """Say whether a shard seems to count the connections of this node, and no others."""
        has_stale = self._registrations.has_stale(self.receiver.local_connections())
        return not has_stale and count == self._registrations.counts[shard.index]

    async def drop_stale(self) -> None:
        """Forget which shards count the connections that this node holds no longer."""
        if not self._registrations.has_stale(self.receiver.local_connections()):
            return
        for some in self._registrations.known():
            for conn_id in some:
                if not self.is_ours(conn_id):
                    self._forget(conn_id)
            await asyncio.sleep(0)

    def held_in(self, shard: Shard) -> Iterator[list[str]]:
        """Yield the ids of the connections of this node that a shard should count, some at a time."""
        return self._registrations.of(shard.index)

    def should_count(self, shard: Shard, conn_id: str) -> bool:
        """Say whether a shard should count a connection for this node."""
        return self._registrations.has(conn_id, shard.index)

    def is_ours(self, conn_id: str) -> bool:
        """Whether this node holds a connection, or is about to."""
        return conn_id in self.receiver.local_connections() or conn_id in self._claiming

    async def suspect(self, shard: Shard) -> None:
        """Be unsure of what a shard that was out of reach counts for this node: another one may have it by now."""
        everything = iter(list(self.receiver.local_connections()))
        while some := list(islice(everything, SUSPECTED_AT_ONCE)):
            held = self.receiver.local_connections()
            self._unsure.update(
                conn_id for conn_id in some if conn_id in held and self._shards.at(conn_id) is shard
            )
            await asyncio.sleep(0)

    def confirm(self, conn_ids: Iterable[str], shard: Shard) -> None:
        """Be sure of connections that a shard counts for this node, as far as it is the one that would know."""
        self._unsure -= {conn_id for conn_id in conn_ids if self._shards.at(conn_id) is shard}

    def owns(self, conn_id: str) -> bool:
        return conn_id not in self._unsure and self._shards.at(conn_id).is_linked

    async def restore(self, conn_id: str, shard: Shard) -> None:
        """Let a shard count a connection of this node as it is, after it was forgotten or its last change failed."""
        if shard is not self._shards.at(conn_id) and not self.owns(conn_id):
            # Another node may have it by now, in other channels: later.
            shard.unconfirmed.add(conn_id)
            return
        while not await self._restore_as_is(conn_id, shard):
            pass

    async def _restore_as_is(self, conn_id: str, shard: Shard) -> bool:
        """Return whether it is done; where the script was not done, the connection may have changed meanwhile."""
        state = b""
        held = self.receiver.membership(conn_id)
        if held is not None and self._in(shard, held.channels):
            state = await self._shards.state_for(held.member.user, [shard])
            # It may have left or joined meanwhile, or gone; from here on calls to the shard keep their order.
            held = self.receiver.membership(conn_id)
        if held is None:
            self._unsure.discard(conn_id)
            return True
        mine: list[Any] = [
            (name, {}, codec.write_read_range(held.channels[name])) for name in self._in(shard, held.channels)
        ]
        if not (mine or self._is_known(shard, held.member)):
            await self._withdraw(shard, conn_id)
            return True
        told = await self._restore(shard, held, mine[:CHUNK], state, whole=len(mine) <= CHUNK)
        return told != AGAIN and await self._restored(conn_id, shard, told, len(mine), state)

    async def _restored(self, conn_id: str, shard: Shard, told: Any, wanted: int, state: bytes) -> bool:
        if shard is self._shards.at(conn_id):
            self._unsure.discard(conn_id)
        if not told:
            self.taken_over(conn_id)
            return True
        self._registrations.add(conn_id, shard.index)
        count, is_whole = told
        if count < wanted or not is_whole:
            await self._restore_rest(conn_id, shard, state)
        return True

    async def _restore(
        self, shard: Shard, held: Membership, channels: Sequence[Any], state: bytes, whole: bool
    ) -> Any:
        directory = self._shards.at(held.member.conn_id)
        return await shard.step(
            "restore",
            **self._of(held.member),
            dir=shard is directory,
            home=self._shards.at(held.member.user) is shard,
            channels=channels,
            whole=whole,
            private=codec.write_read_range(held.private),
            shards=self._others(held),
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
                joins: list[Any] = [
                    (name, {}, codec.write_read_range(held.channels[name])) for name in missing
                ]
                told = await self._restore(shard, held, joins, state, whole=False)
                if not told:
                    self.taken_over(conn_id)
                    return
                counted.update([] if told == AGAIN else missing[: told[0]])
            elif extra:
                told = await shard.step("leave", **self._of(held.member), known=True, channels=extra)
                counted.difference_update([] if told == AGAIN else extra)
            else:
                return

    def _others(self, held: Membership) -> str:
        """Return the shards that count a connection, or are about to, but for that of its id.

        One that has only channels which the connection is just leaving counts it until it has said otherwise.
        """
        conn_id = held.member.conn_id
        shards = self._counting(conn_id, held.member.user, held.channels)
        return " ".join(str(shard.index) for shard in shards if shard is not self._shards.at(conn_id))

    def _counting(self, conn_id: str, user: str, channels: Iterable[str]) -> list[Shard]:
        """Return the shards that count a connection with this user and these channels, or may do so."""
        told = map(self._shards.assigned, self._registrations.shards(conn_id))
        return list(dict.fromkeys((*self._shards.split((conn_id, user, *channels)), *told)))

    def _in(self, shard: Shard, channels: Iterable[str]) -> list[str]:
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
        self._unsure.discard(conn_id)
        for shard in self._shards:
            shard.unconfirmed.discard(conn_id)

    # -- coming and going

    async def connect(self, member: Member, update: UserUpdate, since: Position | None) -> UserChange | None:
        home, directory = self._shards.at(member.user), self._shards.at(member.conn_id)
        await home.watch([f"#u:{member.user}"])
        try:
            if directory is not home and not await self._reserve_id(directory, home, member):
                return None
            return await self._connect_user(home, member, update, since)
        except BaseException:  # Cancelled as well: a shard may have counted it in.
            await self._undo_connect(member)
            raise

    async def _reserve_id(self, directory: Shard, home: Shard, member: Member) -> bool:
        """Return whether nobody has the id of a new connection, which is this node's from then on."""
        told = await directory.call(
            "connect", **self._of(member), dir=True, home=False, shards=str(home.index)
        )
        if told == b"taken":
            return False
        self._registrations.add(member.conn_id, directory.index)
        return True

    async def _connect_user(
        self, home: Shard, member: Member, update: UserUpdate, since: Position | None
    ) -> UserChange | None:
        told = await home.call(
            "connect",
            **self._of(member),
            dir=self._shards.at(member.conn_id) is home,
            home=True,
            shards="",
            update=codec.write_update(update),
            since=self._named(since, home),
            bounds=self._bounds,
        )
        if told == b"taken":
            return None
        if refusal_in(told) is None:
            self._registrations.add(member.conn_id, home.index)
        return await self._shards.changed(home, told)

    async def _undo_connect(self, member: Member) -> None:
        """Count out a connection that could not be counted in; where that fails too, a reconciler will do it."""
        counting = self._counting(member.conn_id, member.user, ())
        self._forget(member.conn_id)
        await self._release(member.conn_id, counting)

    async def disconnect(self, member: Member, channels: Sequence[str]) -> None:
        directory = self._shards.at(member.conn_id)
        counting = self._counting(member.conn_id, member.user, channels)
        self._forget(member.conn_id)
        # What a shard that is out of reach still counts is counted out when it is back.
        others = [shard for shard in counting if shard is not directory]
        ended = directory.call("disconnect", conn_id=member.conn_id, node=self.node)
        told, _ = await gather_all([ended, self._release(member.conn_id, others)])
        if told == b"gone":
            raise Moved

    async def _release(self, conn_id: str, shards: Iterable[Shard]) -> None:
        """Have shards count a connection for this node no longer; where that fails a reconciler will do it."""
        calls = (shard.call("disconnect", conn_id=conn_id, node=self.node) for shard in shards)
        for failure in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(failure, BaseException) and not isinstance(failure, Unavailable):
                raise failure

    async def release_unheld(self, conn_id: str, shard: Shard) -> None:
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
            state = await self._prepare(member, parts)
            joined = await gather_all(
                self._join(shard, member, {name: channels[name] for name in names}, state, since)
                for shard, names in parts.items()
            )
        except BaseException:  # Cancelled as well: the shard may have done it.
            # And if it has not, the shard of the id must not go on naming it.
            self._mark_unconfirmed(member, (*parts, self._shards.at(member.conn_id)))
            raise
        return {name: offset for part in joined for name, offset in part.items()}

    async def _prepare(self, member: Member, shards: Collection[Shard]) -> bytes:
        """Let the shard of a connection's id know which others are about to count it, and return its user's state for them.

        Only those are asked when it moves to another node (`claim`), so that it must know before they do.

        Raises:
            Moved: another node speaks for the connection by now.
        """
        directory, home = self._shards.at(member.conn_id), self._shards.at(member.user)
        new = [each for each in shards if each is not directory and not self._is_named(each, member.conn_id)]
        more = {"conn_id": member.conn_id, "node": self.node, "more": [str(shard.index) for shard in new]}
        if new and directory is home:
            state = await self._shards.state_for(member.user, shards, **more)
        else:
            told = await directory.call("spread", **more, less=[]) if new else b""
            state = told if told == b"gone" else await self._shards.state_for(member.user, shards)
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
            self._registrations.add(member.conn_id, shard.index)
            offset, done = int(answer[0]), [name for name, _ in some[: answer[1]]]
            shard.seen([f"#c:{name}" for name in done if f"#c:{name}" in new], offset)
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
        is_known = self._is_known(shard, member)
        told = 1
        for start in range(0, len(channels), CHUNK):
            some = channels[start : start + CHUNK]
            told = await shard.call("leave", **self._of(member), known=is_known, channels=some)
            if told == b"gone":
                raise Moved
        if not told:
            await self._withdraw(shard, member.conn_id)

    async def _withdraw(self, shard: Shard, conn_id: str) -> None:
        """Have a shard count a connection no longer that is in none of its channels, and is neither of its id nor its user.

        The shard of its id ceases to name it first: what is named and does not count the connection has lost it (`claim`).
        Where either is out of reach, the shard goes on counting the connection until a reconciler comes.
        """
        # From here on a join has the shard named again.
        self._registrations.discard(conn_id, shard.index)
        less = {"conn_id": conn_id, "node": self.node, "less": [str(shard.index)]}
        try:
            await self._shards.at(conn_id).call("spread", **less, more=[])
            while not self._is_in(shard, conn_id):
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

    def _is_in(self, shard: Shard, conn_id: str) -> bool:
        """Whether a connection of this node is in channels of a shard, or is about to be."""
        held = self.receiver.membership(conn_id)
        return held is not None and bool(self._in(shard, held.channels))

    def _is_named(self, shard: Shard, conn_id: str) -> bool:
        """Whether the shard of a connection's id certainly names another one that counts it."""
        return self.should_count(shard, conn_id) and conn_id not in shard.unconfirmed

    def _is_known(self, shard: Shard, member: Member) -> bool:
        """Whether a shard counts a connection even without any channel."""
        return shard in (self._shards.at(member.conn_id), self._shards.at(member.user))

    def _mark_unconfirmed(self, member: Member, shards: Iterable[Shard]) -> None:
        """Have the channels of a connection set right after a change of which a part may have failed."""
        for shard in shards if self.is_ours(member.conn_id) else ():
            shard.unconfirmed.add(member.conn_id)

    def _named(self, since: Position | None, shard: Shard) -> int | bool:
        """Return the number a position has in a shard, as the script takes it; False where none was named."""
        return False if since is None else since.offset_in(self._shards.epochs, shard.index)

    def _of(self, member: Member) -> dict[str, Any]:
        is_seed = member.dialect is Dialect.SEED
        return {"conn_id": member.conn_id, "node": self.node, "user": member.user, "seed": is_seed}

    # -- from another node

    async def claim(self, conn_id: str, orphan: bool, leave: Leave) -> Claim | None:
        self._claiming.add(conn_id)
        try:
            return await self._claim(conn_id, orphan, leave)
        finally:
            self._claiming.discard(conn_id)

    async def _claim(self, conn_id: str, orphan: bool, leave: Leave) -> Claim | None:
        reserved = _Reserved()
        moved = None
        try:
            moved = await self._move(conn_id, orphan, leave, reserved)
        finally:
            if moved is None and reserved.owner != self.node:
                await self._release(conn_id, reserved.parts)
        if moved is None:
            return None
        before, user, seed, named, held = moved
        others = [self._shards.assigned(index) for index in named.split()]
        # The connection has left its last channel in the rest meanwhile, and nobody would ask them again.
        await self._release(conn_id, reserved.parts.keys() - set(others))
        followed = await self._follow(
            conn_id, before.decode(), {shard: reserved.parts[shard] for shard in others}
        )
        parts = {self._shards.at(conn_id): held} | followed
        return await self._claimed(
            Member(conn_id, user.decode(), Dialect.SEED if seed else Dialect.V07), parts
        )

    async def _move(
        self, conn_id: str, orphan: bool, leave: Leave, reserved: "_Reserved"
    ) -> Sequence[Any] | None:
        """Speak for a connection once all other shards that count it do so for this node, too; None: it is unknown.

        Raises:
            Unavailable: one of them is out of reach.
        """
        directory, about = self._shards.at(conn_id), {"conn_id": conn_id, "node": self.node}
        sure: list[str] | bool = False
        if len(self._shards) == 1:
            await leave()
            sure = []
        while True:
            told: Any = await directory.call("claim", **about, orphan=orphan, sure=sure)
            if told == b"held":
                raise Moved
            if told is None or len(told) > MOVED_AT:
                return told  # type: ignore[no-any-return]
            reserved.owner = told[0].decode()
            shards = [self._shards.assigned(index) for index in told[MOVED_AT - 1].split()]
            await self._reserve([shard for shard in shards if shard not in reserved.parts], about, reserved)
            if sure is False:
                await leave()
            sure = [str(shard.index) for shard in reserved.parts]

    async def _reserve(
        self, shards: Sequence[Shard], about: Mapping[str, str], reserved: "_Reserved"
    ) -> None:
        calls = (shard.call("reserve", **about) for shard in shards)
        answers = await asyncio.gather(*calls, return_exceptions=True)
        failures = [answer for answer in answers if isinstance(answer, BaseException)]
        reserved.parts |= dict.fromkeys(shards) if failures else dict(zip(shards, answers, strict=True))
        if failures:
            raise failures[0]

    async def _follow(self, conn_id: str, before: str, reserved: Mapping[Shard, Any]) -> dict[Shard, Any]:
        """Have other shards count a connection for this node alone; of one out of reach by now counts what it has said."""
        follow = {"conn_id": conn_id, "node": self.node, "from": before}
        calls = (shard.call("follow", **follow) for shard in reserved)
        followed: dict[Shard, Any] = {}
        for shard, told in zip(reserved, await asyncio.gather(*calls, return_exceptions=True), strict=True):
            if isinstance(told, BaseException) and not isinstance(told, Unavailable):
                raise told
            followed[shard] = reserved[shard] if isinstance(told, Unavailable) else told
        return followed

    async def _claimed(self, member: Member, parts: Mapping[Shard, Any]) -> Claim:
        home = self._shards.at(member.user)
        await home.watch([f"#u:{member.user}"])
        channels: dict[str, ReadRange] = {}
        private: ReadRange | None = None
        offsets = self._shards.offsets
        for shard, (connected, joined) in ((shard, told) for shard, told in parts.items() if told):
            self._registrations.add(member.conn_id, shard.index)
            found = await shard.fields("kc", member.conn_id) if joined is None else dict(codec.pairs(joined))
            mine = {name.decode(): codec.read_read_range(text) for name, text in found.items()}
            await shard.watch([f"#c:{name}" for name in mine])
            private = codec.read_read_range(connected) if connected else private
            begins = [*mine.values(), *([codec.read_read_range(connected)] if connected else ())]
            offsets = with_offset(
                offsets,
                shard.index,
                min([offsets[shard.index], *(read_range.joined for read_range in begins)]),
            )
            channels |= mine
        if private is None:
            home.unconfirmed.add(member.conn_id)
        # A shard that should count it and knows nothing of it has lost what it knew.
        return Claim(member, channels, private, offsets, is_whole=all(parts.values()))
