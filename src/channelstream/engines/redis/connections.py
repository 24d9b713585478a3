"""Registers the connections of a node in the shards of the log; `claims.py` moves their ownership between nodes.

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
  connection is unconfirmed in this shard (`registration_index.py`). Later `restore` registers the connection in
  the shard, with the channels that the connection has at that time.

A lost answer, a broken link or an expired lease may leave wrong registrations behind. The reconciler compares
each shard with the memory of this node, and repairs the differences (`reconciler.py`).
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from itertools import islice
from typing import Any

from channelstream.core.position import Position
from channelstream.core.user import UserUpdate
from channelstream.engines.base import Registered
from channelstream.engines.members import Member
from channelstream.engines.redis import codec
from channelstream.engines.redis.link_state import OUT_OF_REACH
from channelstream.engines.redis.registrar import Registrar
from channelstream.engines.redis.registration_index import RegistrationStep
from channelstream.engines.redis.shard import Shard
from channelstream.engines.redis.shard_client import CHUNK
from channelstream.engines.redis.shards import Shards, check_state, gather_all
from channelstream.errors import Moved, Unavailable


class Connections:
    """Connecting, joining, leaving and disconnecting."""

    def __init__(self, shards: Shards, registrar: Registrar, bounds: Mapping[str, Any]) -> None:
        self._shards = shards
        self._registrar = registrar
        self._ownership = registrar.ownership
        self._bounds = bounds

    async def connect(
        self,
        member: Member,
        update: UserUpdate,
        channels: Mapping[str, Mapping[str, Any]],
        since: Position | None,
    ) -> Registered | None:
        """Register a connection: one call does all that is in the home of its user.

        The channels in other shards, and those that were too many for that call, are joined afterwards.
        """
        home = self._shards.at(member.user)
        here = {name: channels[name] for name in islice(self._reachable(channels).get(home, ()), CHUNK)}
        # Subscribe before the registration: otherwise an event that is published right after the registration
        # would be missed.
        names = [f"#u:{member.user}", *map(_name, here)]
        with home.subscriber.hold(names):
            new = await home.subscriber.subscribe(names)
            try:
                registered = await self._register(member, update, here, since, new)
                if registered is not None and len(registered.joined) < len(channels):
                    others = {name: channels[name] for name in channels if name not in registered.joined}
                    registered.joined.update(await self.join(member, others, since))
            except BaseException:  # Also on cancellation: a shard may have registered the connection.
                await self._undo_connect(member, channels)
                raise
        return registered

    async def _register(
        self,
        member: Member,
        update: UserUpdate,
        channels: Mapping[str, Mapping[str, Any]],
        since: Position | None,
        new: set[str],
    ) -> Registered | None:
        """Register a connection in its directory and in the home of its user, and let it join channels of that home.

        Args:
            new: what was subscribed for that.

        Returns:
            As many of the channels as one call has time for; None if the id is taken.
        """
        home, directory = self._shards.at(member.user), self._shards.at(member.conn_id)
        if directory is not home and not await self._reserve_id(directory, home, member):
            return None
        reply = await home.client.call(
            "connect",
            **self._registrar.identity(member),
            dir=directory is home,
            home=True,
            shards="",
            update=codec.write_update(update),
            channels=_written(channels.items()),
            since=self._since_offset(since, home),
            bounds=self._bounds,
        )
        if reply == b"taken":
            return None
        check_state(reply)
        self._ownership.registrations.move(member.conn_id, home.index, RegistrationStep.REGISTER)
        changed, offset, count = reply
        joined = dict.fromkeys(islice(channels, count), int(offset))
        home.subscriber.mark_complete(new.intersection(map(_name, joined)), int(offset))
        change = await self._shards.propagate(home, changed)
        return Registered(change.user, change.offsets, joined)

    async def _reserve_id(self, directory: Shard, home: Shard, member: Member) -> bool:
        """Make this node the owner of a new id; return false if the id is taken."""
        reply = await directory.client.call(
            "connect", **self._registrar.identity(member), dir=True, home=False, shards=str(home.index)
        )
        if reply == b"taken":
            return False
        self._ownership.registrations.move(member.conn_id, directory.index, RegistrationStep.REGISTER)
        return True

    async def _undo_connect(self, member: Member, channels: Iterable[str]) -> None:
        """Unregister a connection that could not be connected.

        If this fails in a shard too, the reconciler of that shard unregisters the connection later.
        """
        registered = self._registrar.registered_shards(member.conn_id, member.user, channels)
        self._ownership.forget(member.conn_id)
        await self._registrar.release(member.conn_id, registered)

    async def disconnect(self, member: Member, channels: Sequence[str]) -> None:
        directory = self._shards.at(member.conn_id)
        registered = self._registrar.registered_shards(member.conn_id, member.user, channels)
        # Forget the connection first. If a registration then remains in a shard, this node does not expect
        # it, and the reconciler releases it.
        self._ownership.forget(member.conn_id)
        # Only the directory has to answer. If another shard is out of reach, its reconciler releases the
        # connection there later.
        others = [shard for shard in registered if shard is not directory]
        ended = directory.client.call("disconnect", conn_id=member.conn_id, node=self._registrar.node)
        reply, _ = await gather_all([ended, self._registrar.release(member.conn_id, others)])
        if reply == b"gone":
            raise Moved

    async def join(
        self, member: Member, channels: Mapping[str, Mapping[str, Any]], since: Position | None
    ) -> dict[str, int]:
        parts = self._reachable(channels)
        try:
            state = await self._list_shards(member, parts)
            with ExitStack() as held:
                for shard, names in parts.items():
                    held.enter_context(shard.subscriber.hold(list(map(_name, names))))
                joined = await gather_all(
                    self._join(shard, member, {name: channels[name] for name in names}, state, since)
                    for shard, names in parts.items()
                )
        except BaseException:  # Also on cancellation: a shard may have joined its channels.
            # If a shard has not joined its channels, the directory lists that shard without need. So the
            # connection is marked in the directory too: `restore` then corrects the list.
            self._registrar.mark_unconfirmed(member, (*parts, self._shards.at(member.conn_id)))
            raise
        return {name: offset for part in joined for name, offset in part.items()}

    def _reachable(self, channels: Iterable[str]) -> dict[Shard, list[str]]:
        """Return the shards of channels to join, each with its channels.

        Raises:
            Unavailable: one of them is out of reach. This is checked before the directory lists the shards: a connection
                cannot move while a listed shard is out of reach.
        """
        parts = self._shards.split(channels)
        if not all(shard.link.is_reachable for shard in parts):
            raise Unavailable(OUT_OF_REACH)
        return parts

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
            shard
            for shard in shards
            if shard is not directory and not self._registrar.is_listed(shard, member.conn_id)
        ]
        more = {
            "conn_id": member.conn_id,
            "node": self._registrar.node,
            "more": [str(shard.index) for shard in new],
        }
        if new and directory is home:  # One call does both.
            state = await self._shards.state_for(member.user, shards, **more)
        else:
            reply = await directory.client.call("spread", **more, less=[]) if new else b""
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
        new = await shard.subscriber.subscribe(list(map(_name, channels)))
        wanted, joined = list(channels.items()), dict[str, int]()
        while len(joined) < len(wanted):
            batch = wanted[len(joined) : len(joined) + CHUNK]
            reply = await shard.client.call(
                "join",
                **self._registrar.identity(member),
                known=self._registrar.is_permanent(shard, member),
                channels=_written(batch),
                since=self._since_offset(since, shard),
                bounds=self._bounds,
                blob=state,
            )
            if reply == b"gone":
                raise Moved
            self._ownership.registrations.move(member.conn_id, shard.index, RegistrationStep.REGISTER)
            offset, count = int(reply[0]), reply[1]
            done = [name for name, _ in batch[:count]]
            shard.subscriber.mark_complete(new.intersection(map(_name, done)), offset)
            joined |= dict.fromkeys(done, offset)
        return joined

    async def leave(self, member: Member, channels: Sequence[str]) -> None:
        parts = self._shards.split(channels)
        try:
            await gather_all(self._leave(shard, member, names) for shard, names in parts.items())
        except BaseException:  # Also on cancellation: a shard may have left the channels.
            self._registrar.mark_unconfirmed(member, parts)
            raise

    async def _leave(self, shard: Shard, member: Member, channels: list[str]) -> None:
        is_permanent = self._registrar.is_permanent(shard, member)
        reply = 1
        for start in range(0, len(channels), CHUNK):
            batch = channels[start : start + CHUNK]
            reply = await shard.client.call(
                "leave", **self._registrar.identity(member), known=is_permanent, channels=batch
            )
            if reply == b"gone":
                raise Moved
        if not reply:
            await self._registrar.unregister(shard, member.conn_id)

    def _since_offset(self, since: Position | None, shard: Shard) -> int | bool:
        """Return the offset of a position in a shard, in the script's form; False without a position."""
        return False if since is None else since.offset_in(self._shards.epochs, shard.index)


def _name(channel: str) -> str:
    """Return the name of a channel as the node subscribes to it."""
    return f"#c:{channel}"


def _written(channels: Iterable[tuple[str, Mapping[str, Any]]]) -> list[tuple[str, dict[str, Any]]]:
    """Return channels to join in the script's form."""
    return [(name, dict(patch)) for name, patch in channels]
