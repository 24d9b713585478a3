"""The reads of the directory on Redis: which shards are asked about channels and users, and what becomes of the answers."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from channelstream.core.channel import Channel
from channelstream.core.position import Position, with_offset
from channelstream.core.presence_events import apply_presence
from channelstream.core.user import State, User
from channelstream.engines.base import Counts, MembersAt
from channelstream.engines.redis import codec
from channelstream.engines.redis.delivery import Delivery
from channelstream.engines.redis.shard import Shard
from channelstream.engines.redis.shard_client import CHUNK
from channelstream.engines.redis.sharded_log import ShardedLog
from channelstream.engines.redis.shards import Shards, gather_all

STATES_AT_ONCE = 1_000
"""Members whose states are asked for at once, where a channel has too many for one answer."""
EVENTS_AT_ONCE = 1_000
"""Events that are read at once to find out who has come and left meanwhile."""


class ShardedReads:
    """The methods of `DirectoryReads`, and none else."""

    def __init__(self, shards: Shards, log: ShardedLog, delivery: Delivery) -> None:
        self._shards = shards
        self._log = log
        self._delivery = delivery

    async def channels(self, names: Sequence[str] | None, with_users: bool = True) -> list[Channel]:
        found = {}
        for shard, name, answer in await self._read("channels", "c", names, users=with_users):
            found[name] = await self._channel(shard, answer, with_users)
        return list(found.values()) if names is None else [found[name] for name in names if name in found]

    async def channels_at(
        self, names: Sequence[str], with_users: bool = True
    ) -> tuple[list[Channel], Position]:
        parts = self._shards.split(names)
        if not parts:
            return [], await self._log.head(names)
        # Of before the reads: offsets of a log that is replaced meanwhile mean nothing in the new one.
        epochs, offsets = self._shards.epochs, self._shards.offsets
        read = await gather_all(self._channels_in(shard, batch, with_users) for shard, batch in parts.items())
        found = {}
        for shard, (head, answers) in zip(parts, read, strict=True):
            offsets = with_offset(offsets, shard.index, head)
            for answer in answers:
                found[answer[0].decode()] = await self._channel(shard, answer, with_users)
        return [found[name] for name in names if name in found], Position(epochs, offsets)

    async def _channels_in(
        self, shard: Shard, names: Sequence[str], with_users: bool
    ) -> tuple[int, Sequence[Any]]:
        """Return the last offset of a shard, and then the answers about its channels."""
        count, answers, head = await shard.client.call("channels", names=names[:CHUNK], users=with_users)
        rest = await shard.client.read_each("channels", names[count:], users=with_users)
        return int(head), [*answers, *rest]

    async def _channel(self, shard: Shard, answer: Any, with_users: bool) -> Channel:
        """Read the answer about a channel, and fetch what was too much for one call."""
        name, known, users, shown, after = answer
        if with_users and isinstance(users, int):
            users = await shard.scans.fields("cu", name.decode())
        shown = await shard.log.history_from(name.decode(), shown, int(after or 0))
        entries = self._delivery.readable(self._shards.replay_origin(shard), shown)
        return codec.read_channel((name, known, users), entries)

    async def users(self, names: Sequence[str] | None, with_channels: bool = True) -> list[User]:
        found = {}
        for shard, name, answer in await self._read("users", "u", names):
            channels = await self._channels_of(shard, name, answer[-1]) if with_channels else ()
            found[name] = codec.read_user([*answer[:-1], channels])
        if len(self._shards) > 1 and with_channels:
            await gather_all(self._add_channels(shard, found) for shard in self._shards)
        return list(found.values()) if names is None else [found[name] for name in names if name in found]

    async def _channels_of(self, shard: Shard, user: str, listed: Sequence[bytes] | None) -> Iterable[bytes]:
        """Return a user's channels in a shard: the listed ones, or a scan where they were too many for the answer."""
        return await shard.scans.fields("uc", user) if listed is None else listed

    async def counts(self) -> Counts:
        each = await gather_all(shard.scans.counts() for shard in self._shards)
        return Counts(*map(sum, zip(*each, strict=True)))

    async def members_at(self, channel: str) -> MembersAt:
        # The events up to the offset are in Redis, and a replay has this node receive them.
        offset, flat = await self._shards.at(channel).client.call("members_at", channel=channel)
        if flat:
            return MembersAt(codec.read_members(flat), int(offset))
        users = [name for each in await self.channels([channel]) for name in each.users]
        parts = [users[at : at + STATES_AT_ONCE] for at in range(0, len(users), STATES_AT_ONCE)]
        states = [each for part in parts for each in await self.states(dict.fromkeys(part, channel))]
        return await self._corrected(channel, dict(each.listed for each in states), int(offset))

    async def _corrected(self, channel: str, members: dict[str, State], offset: int) -> MembersAt:
        """Return the members at a later offset than the one at which they began to be read, in several steps.

        Who came or left meanwhile is among them or not. The log says how it ended for each of these.
        """
        shard = self._shards.at(channel).index
        end = None
        while end is None or offset < end:
            replay = await self._log.replay("", {channel: offset}, EVENTS_AT_ONCE)
            if replay.lost:
                break  # A client that reads on from here has lost the channel as well.
            apply_presence(members, (entry.event for entry in replay.entries))
            offset = replay.read_to[shard]
            end = end or replay.head[shard]
        return MembersAt(list(members.items()), offset)

    async def states(self, members: Mapping[str, str]) -> list[User]:
        parts: dict[Shard, list[str]] = {}
        for name, channel in members.items():
            parts.setdefault(self._shards.at(channel), []).append(name)
        found = await gather_all(self._read_in(shard, "states", "u", batch) for shard, batch in parts.items())
        by_name = {name: codec.read_state(answer) for each in found for _, name, answer in each}
        return [by_name[name] for name in members if name in by_name]

    async def _add_channels(self, shard: Shard, users: Mapping[str, User]) -> None:
        """Add the users' channels in one shard."""
        for name, listed in await shard.client.read_each("user_channels", list(users)):
            channels = await self._channels_of(shard, name.decode(), listed)
            users[name.decode()].channels |= {channel.decode() for channel in channels}

    async def _read(
        self, operation: str, kind: str, names: Sequence[str] | None, **options: bool
    ) -> list[tuple[Shard, str, Any]]:
        """Ask the shards about channels or users; None means all that each has."""
        wanted = dict.fromkeys(self._shards) if names is None else self._shards.split(names)
        found = await gather_all(
            self._read_in(shard, operation, kind, batch, **options) for shard, batch in wanted.items()
        )
        return [each for batch in found for each in batch]

    async def _read_in(
        self, shard: Shard, operation: str, kind: str, names: Sequence[str] | None, **options: bool
    ) -> list[tuple[Shard, str, Any]]:
        names = await shard.scans.names(kind) if names is None else names
        return [
            (shard, answer[0].decode(), answer)
            for answer in await shard.client.read_each(operation, names, **options)
        ]
