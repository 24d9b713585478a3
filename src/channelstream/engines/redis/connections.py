"""Registers the connections of a node in the shards of the log, and moves their ownership between nodes.

A shard is a part of the log in Redis. Each channel, user and connection id belongs to one shard, by a hash of
its name. A connection is registered in several shards: in the shard of its id (its "directory"), in the shard
of its user (the user's "home"), and in the shards of its channels. One node owns the connection, and only
this node writes to its stream. Each node renews a lease in each shard as long as it lives. When the lease of
a node has ended, another node "reaps" it: it unregisters all connections of that node.

No transaction spans two shards. A node may die, or lose its link with a shard, between any two steps. Four
rules keep every intermediate state harmless:

- **The directory decides who owns a connection.** The owner is one field in one shard, and one script changes
  it. Once it is certain which node owns the connection, that node can repair the registrations in all other
  shards (see the last rule).
- **A shard registers a connection for each node separately.** It unregisters the connection when the last of
  these nodes has released it. So a node that claims a connection first "reserves" it: each shard then
  registers the connection for the owner and for the claiming node. In the middle of the move the owner may
  die, be reaped, or release the connection. Even then the connection stays a member of its channels, because
  the claiming node has it registered. The alternative is to replace the owner shard by shard. If a claim then
  failed between two shards, the user would be announced as left, and later as joined again.
- **The directory lists the other shards** that register the connection: the home of its user, and each shard
  in which it has a channel. A shard is added to the list before the connection joins its first channel there.
  It is removed after the connection has left its last channel there. So every shard with a channel is listed,
  and a claim asks only the listed shards. If a claim asked all shards, every move would fail while any one of
  up to 16 shards is out of reach. If a listed shard does not know the connection, that shard has lost its
  data (`Claim.is_whole`).
- **The owner knows best.** It keeps the channels of its connections in memory. A call to a shard may fail
  with an unknown outcome. Such a call is not undone. Instead the node notes in its own memory that the
  connection is unconfirmed in this shard (`Shard.unconfirmed`). Later `restore` registers the connection in
  the shard, with the channels that the connection has at that time.

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

A lost answer, a broken link or an expired lease may leave wrong registrations behind. The reconciler compares
each shard with the memory of this node, and repairs the differences (`reconciler.py`).

While the directory of a connection is out of reach, this node may lose the connection without notice. Another
node may claim it, and the message about the claim is lost, since Redis publishes it but does not store it. Or
the lease of this node ends, and another node reaps it. So when the link breaks, `owns` becomes false for the
connection (`suspect`). It becomes true again when the directory has confirmed that this node is the owner.
"""

import asyncio
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from channelstream.core.client_protocol import ClientProtocol, PresenceAudience
from channelstream.core.position import Position, ReadRange, with_offset
from channelstream.core.user import UserChange, UserUpdate
from channelstream.engines.cluster import Claim, ClusterReceiver, RequestRelease
from channelstream.engines.members import Member, Membership
from channelstream.engines.redis import codec
from channelstream.engines.redis.link import OUT_OF_REACH
from channelstream.engines.redis.registration_index import RegistrationIndex
from channelstream.engines.redis.shard import AGAIN, CHUNK, NodeContext, Shard
from channelstream.engines.redis.shards import Shards, gather_all, refusal_in
from channelstream.errors import Moved, Unavailable

MOVED_FIELD = 5
"""Index of the moved registration in the reply to `claim`. It is missing if the owner has not changed."""
SUSPECTED_AT_ONCE = 1000
"""Connections marked as suspected in one turn of the event loop."""


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


class Connections:
    """The methods of the engine port that concern connections, and the repairs that reconcilers ask for."""

    receiver: ClusterReceiver

    def __init__(self, shards: Shards, node: NodeContext, bounds: Mapping[str, Any]) -> None:
        self.node = node.name
        self.label = node.label
        self._shards = shards
        self._bounds = bounds
        self._registrations = RegistrationIndex(len(shards))
        self._claiming: set[str] = set()
        self._suspected: set[str] = set()

    # -- for reconcilers

    def count_matches(self, shard: Shard, count: int) -> bool:
        """Return whether a shard seems to register the right connections. Only their numbers are compared."""
        has_stale = self._registrations.has_stale(self.receiver.local_connections())
        return not has_stale and count == self._registrations.counts[shard.index]

    async def drop_stale(self) -> None:
        """Forget the registrations of connections that this node no longer has."""
        if not self._registrations.has_stale(self.receiver.local_connections()):
            return
        for batch in self._registrations.batches():
            for conn_id in batch:
                if not self.is_ours(conn_id):
                    self._forget(conn_id)
            await asyncio.sleep(0)

    def registered_in(self, shard: Shard) -> Iterator[list[str]]:
        """Yield the ids of the connections of this node that a shard should register, in batches."""
        return self._registrations.batches_in(shard.index)

    def should_register(self, shard: Shard, conn_id: str) -> bool:
        """Return whether a shard should register a connection for this node."""
        return self._registrations.has(conn_id, shard.index)

    def is_ours(self, conn_id: str) -> bool:
        """Return whether this node has a connection or is claiming it now.

        While this node claims a connection, the reconciler must not release the reservations of the
        connection.
        """
        return conn_id in self.receiver.local_connections() or conn_id in self._claiming

    async def suspect(self, shard: Shard) -> None:
        """Suspect the connections whose directory is this shard: `owns` is false for them from now on.

        While the shard is out of reach, another node may claim them.
        """
        everything = iter(list(self.receiver.local_connections()))
        while batch := list(islice(everything, SUSPECTED_AT_ONCE)):
            # Read the local connections again in each turn: otherwise a connection that has ended meanwhile
            # would stay suspected for ever.
            local = self.receiver.local_connections()
            self._suspected.update(
                conn_id for conn_id in batch if conn_id in local and self._shards.at(conn_id) is shard
            )
            await asyncio.sleep(0)

    def confirm(self, conn_ids: Iterable[str], shard: Shard) -> None:
        """Clear the suspicion of connections that their directory registers for this node.

        In the directory one script changes both the owner and the registration. So a directory never
        registers a connection for a former owner.
        """
        self._suspected -= {conn_id for conn_id in conn_ids if self._shards.at(conn_id) is shard}

    def owns(self, conn_id: str) -> bool:
        return conn_id not in self._suspected and self._shards.at(conn_id).is_linked

    async def restore(self, conn_id: str, shard: Shard) -> None:
        """Register a connection of this node, with its present channels, in a shard.

        Called after the shard has lost the connection, or after a call about the connection has failed.
        """
        if shard is not self._shards.at(conn_id) and not self.owns(conn_id):
            # Another node may own the connection, with other channels. So the connection is marked: the
            # reconciler calls this again, once the directory has answered.
            shard.unconfirmed.add(conn_id)
            return
        while not await self._restore_once(conn_id, shard):
            pass

    async def _restore_once(self, conn_id: str, shard: Shard) -> bool:
        """Try to restore a connection, and return whether this is done.

        If it is not done, the script has stopped at its limits. The caller then repeats this method, which
        reads the channels of the connection again.
        """
        state = b""
        membership = self.receiver.membership(conn_id)
        if membership is not None and self._channels_in(shard, membership.channels):
            state = await self._shards.state_for(membership.member.user, [shard])
            # While this waited, the connection may have joined or left a channel, or ended. So it is read
            # again. Nothing is awaited between this read and the call. So the shard receives this call before
            # any call about a later change.
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
        """Restore a connection with very many channels in a shard.

        First join the channels that the shard lacks, then leave those that the connection no longer has.

        Each call is built from the channels that the connection has at that moment, and nothing is awaited
        before the call is sent. So the shard receives these calls, and the calls that change the channels, in
        the order in which they were made.
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
        """Return the shards to list in the directory: all that register the connection, or are about to.

        This includes a shard in which the connection is leaving its last channel. That shard registers the
        connection until the shard has confirmed the leave.
        """
        conn_id = membership.member.conn_id
        shards = self._registered_shards(conn_id, membership.member.user, membership.channels)
        return " ".join(str(shard.index) for shard in shards if shard is not self._shards.at(conn_id))

    def _registered_shards(self, conn_id: str, user: str, channels: Iterable[str]) -> list[Shard]:
        """Return every shard that may register a connection with this user and these channels."""
        known = map(self._shards.by_index, self._registrations.shards(conn_id))
        return list(dict.fromkeys((*self._shards.split((conn_id, user, *channels)), *known)))

    def _channels_in(self, shard: Shard, channels: Iterable[str]) -> list[str]:
        return [name for name in channels if self._shards.at(name) is shard]

    async def send_states(self, shard: Shard) -> None:
        """Send a shard the states of users that changed while it was out of reach."""
        for user in sorted(shard.pending_state):
            with suppress(Unavailable):  # The home of the user may be out of reach too.
                await shard.send_paced(
                    "follow_state", user=user, blob=await self._shards.state_for(user, [shard])
                )
                shard.pending_state.discard(user)

    def taken_over(self, conn_id: str) -> None:
        """Forget a connection that another node owns now, and report the change of owner to the receiver."""
        self._forget(conn_id)
        self.receiver.taken_over(conn_id)

    def _forget(self, conn_id: str) -> None:
        """Forget everything about a connection that this node no longer has."""
        self._registrations.forget(conn_id)
        self._suspected.discard(conn_id)
        for shard in self._shards:
            shard.unconfirmed.discard(conn_id)

    # -- connect and disconnect

    async def connect(self, member: Member, update: UserUpdate, since: Position | None) -> UserChange | None:
        home, directory = self._shards.at(member.user), self._shards.at(member.conn_id)
        # Subscribe before the registration: otherwise an event that is published right after the registration
        # would be missed.
        await home.subscribe([f"#u:{member.user}"])
        try:
            if directory is not home and not await self._reserve_id(directory, home, member):
                return None
            return await self._connect_user(home, member, update, since)
        except BaseException:  # Also on cancellation: a shard may have registered the connection.
            await self._undo_connect(member)
            raise

    async def _reserve_id(self, directory: Shard, home: Shard, member: Member) -> bool:
        """Make this node the owner of a new id; return false if the id is taken."""
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
        """Unregister a connection that could not be connected.

        If this fails in a shard too, the reconciler of that shard unregisters the connection later.
        """
        registered = self._registered_shards(member.conn_id, member.user, ())
        self._forget(member.conn_id)
        await self._release(member.conn_id, registered)

    async def disconnect(self, member: Member, channels: Sequence[str]) -> None:
        directory = self._shards.at(member.conn_id)
        registered = self._registered_shards(member.conn_id, member.user, channels)
        # Forget the connection first. If a registration then remains in a shard, this node does not expect
        # it, and the reconciler releases it.
        self._forget(member.conn_id)
        # Only the directory has to answer. If another shard is out of reach, its reconciler releases the
        # connection there later.
        others = [shard for shard in registered if shard is not directory]
        ended = directory.call("disconnect", conn_id=member.conn_id, node=self.node)
        reply, _ = await gather_all([ended, self._release(member.conn_id, others)])
        if reply == b"gone":
            raise Moved

    async def _release(self, conn_id: str, shards: Iterable[Shard]) -> None:
        """Release a connection in shards. If a shard is out of reach, its reconciler does this later."""
        calls = (shard.call("disconnect", conn_id=conn_id, node=self.node) for shard in shards)
        for failure in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(failure, BaseException) and not isinstance(failure, Unavailable):
                raise failure

    async def release_unowned(self, conn_id: str, shard: Shard) -> None:
        """Release a connection in a shard, unless this node has the connection or is claiming it."""
        while not self.is_ours(conn_id):
            if await shard.step("disconnect", conn_id=conn_id, node=self.node) != AGAIN:
                return

    # -- channels

    async def join(
        self, member: Member, channels: Mapping[str, Mapping[str, Any]], since: Position | None
    ) -> dict[str, int]:
        parts = self._shards.split(channels)
        if not all(shard.is_reachable for shard in parts):
            # Check this before the directory lists the shards: a connection cannot move while a listed shard
            # is out of reach.
            raise Unavailable(OUT_OF_REACH)
        try:
            state = await self._list_shards(member, parts)
            joined = await gather_all(
                self._join(shard, member, {name: channels[name] for name in names}, state, since)
                for shard, names in parts.items()
            )
        except BaseException:  # Also on cancellation: a shard may have joined its channels.
            # If a shard has not joined its channels, the directory lists that shard without need. So the
            # connection is marked in the directory too: `restore` then corrects the list.
            self._mark_unconfirmed(member, (*parts, self._shards.at(member.conn_id)))
            raise
        return {name: offset for part in joined for name, offset in part.items()}

    async def _list_shards(self, member: Member, shards: Collection[Shard]) -> bytes:
        """List shards in the directory, before a connection joins channels in them.

        Returns:
            The state of the connection's user, which the joins copy to those shards that are not the user's
            home.

        Raises:
            Moved: another node owns the connection.
        """
        directory, home = self._shards.at(member.conn_id), self._shards.at(member.user)
        new = [
            shard for shard in shards if shard is not directory and not self._is_listed(shard, member.conn_id)
        ]
        more = {"conn_id": member.conn_id, "node": self.node, "more": [str(shard.index) for shard in new]}
        if new and directory is home:  # One call does both.
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
        """Join channels of one shard, in as many calls as it takes.

        The channels of one call are joined at the same offset.
        """
        # Subscribe before the join, so that every event after the offset of the join is received.
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
        except BaseException:  # Also on cancellation: a shard may have left the channels.
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
        """Unregister a connection in a shard that has none of its channels.

        The shard is neither that of the connection's id nor that of its user.

        First the directory removes the shard from its list. In the other order a claim in between would find
        a listed shard that does not register the connection. The claim would take that shard for one that has
        lost its data. If the directory or the shard is out of reach, the registration remains until the
        reconciler repeats this call.
        """
        # Without this entry `_is_listed` is false. So a join that begins from now on adds the shard to the
        # list again.
        self._registrations.discard(conn_id, shard.index)
        less = {"conn_id": conn_id, "node": self.node, "less": [str(shard.index)]}
        try:
            await self._shards.at(conn_id).call("spread", **less, more=[])
            while not self._has_channels_in(shard, conn_id):
                if await shard.step("disconnect", conn_id=conn_id, node=self.node) != AGAIN:
                    return
            # The connection has meanwhile joined a channel in the shard, or is about to. So it stays
            # registered there. It is marked, because it is not certain that the directory lists the shard.
            shard.unconfirmed.add(conn_id)
        except BaseException as error:
            if self.is_ours(conn_id):
                self._registrations.add(conn_id, shard.index)
                shard.unconfirmed.add(conn_id)
            if not isinstance(error, Unavailable):
                raise

    def _has_channels_in(self, shard: Shard, conn_id: str) -> bool:
        """Return whether a connection of this node is in channels of a shard, or is joining one."""
        membership = self.receiver.membership(conn_id)
        return membership is not None and bool(self._channels_in(shard, membership.channels))

    def _is_listed(self, shard: Shard, conn_id: str) -> bool:
        """Return whether the directory certainly lists a shard for a connection."""
        return self.should_register(shard, conn_id) and conn_id not in shard.unconfirmed

    def _is_permanent(self, shard: Shard, member: Member) -> bool:
        """Return whether a shard registers a connection even if the connection has no channel there.

        Two shards do so: the shard of the connection's id, and the shard of the connection's user.
        """
        return shard in (self._shards.at(member.conn_id), self._shards.at(member.user))

    def _mark_unconfirmed(self, member: Member, shards: Iterable[Shard]) -> None:
        """Mark a connection after a call with an unknown outcome, so that reconcilers restore it."""
        for shard in shards if self.is_ours(member.conn_id) else ():
            shard.unconfirmed.add(member.conn_id)

    def _since_offset(self, since: Position | None, shard: Shard) -> int | bool:
        """Return the offset of a position in a shard, in the script's form; False without a position."""
        return False if since is None else since.offset_in(self._shards.epochs, shard.index)

    def _identity(self, member: Member) -> dict[str, Any]:
        name, presence = member.protocol
        always = presence is PresenceAudience.ALWAYS
        client = {"protocol": name, "always": always}
        return {"conn_id": member.conn_id, "node": self.node, "user": member.user, "client": client}

    # -- claims

    async def claim(self, conn_id: str, orphan: bool, request_release: RequestRelease) -> Claim | None:
        self._claiming.add(conn_id)  # The reconciler must not release the reservations as unowned.
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
            # If the directory names this node, an earlier claim has succeeded, and its answer was lost. Then
            # keep all reservations.
            if moved is None and reserved.owner != self.node:
                await self._release(conn_id, reserved.replies)
        if moved is None:
            return None
        previous, user, protocol, always, listed, part = moved
        others = [self._shards.by_index(index) for index in listed.split()]
        # In some shards the connection may be reserved although the directory no longer lists them: the
        # connection has meanwhile left its last channel there. No list names these shards, so a later owner
        # would not find them. So this node releases the connection there.
        await self._release(conn_id, reserved.replies.keys() - set(others))
        moved_parts = await self._move_others(
            conn_id, previous.decode(), {shard: reserved.replies[shard] for shard in others}
        )
        parts = {self._shards.at(conn_id): part} | moved_parts
        return await self._finish_claim(
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
                # The owner is asked only after all shards have answered: it must not drop the stream for a
                # claim that then fails in a shard.
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
        """Remove the former owner's registration in the listed shards.

        Returns:
            The registration of the connection in each of these shards. If a shard is out of reach, this is
            the registration that it has returned to `reserve`.
        """
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
        # If a listed shard does not know the connection, that shard has lost its data.
        return Claim(member, channels, private, offsets, is_whole=all(parts.values()))
