"""What the API tells about channels and their users: `/info` and the `channels_info` of other answers.

Each channel names at most `CallLimits.info_users` of its users, and the work is done in turns: an answer grows neither with
the members of a channel, nor does it hold up anybody else.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from typing import Any

from msgspec import Raw
from msgspec.structs import asdict

from channelstream.api.call import Call
from channelstream.api.schemas import InfoOptions
from channelstream.asgi import PART_BYTES, Parts, encode, in_parts
from channelstream.core.channel import Channel
from channelstream.core.codec import item
from channelstream.core.events import Dialect
from channelstream.core.position import Position
from channelstream.core.timestamps import stamp
from channelstream.core.user import User
from channelstream.slices import STEP

STATES = 10
"""How many times the users of one channel an answer tells the states of, from all its channels together."""
LOOKUP = 500
"""Users asked for at once."""

Answer = dict[str, Any]


async def told_whole(call: Call, told: Answer, info: Answer) -> Answer | Parts:
    """Return an answer as it is to be sent: in parts if what it tells of channels is long.

    Args:
        info: the part of it that `channels_info` or `info_of` has made.
    """
    channels, users = info["channels"].values(), info["users"]
    is_long = any(isinstance(each, Raw) or _is_large(each) for each in channels)
    return await in_parts(told, call.turns) if is_long or len(users) > STEP else told


def _is_large(channel: Answer) -> bool:
    return sum(memoryview(shown).nbytes for shown in channel["history"]) > PART_BYTES


async def channels_info(call: Call, names: Sequence[str] | None, options: InfoOptions) -> Answer:
    """Describe channels; None means all. Unknown names are left out."""
    return await _described(call, names, options, await call.node.engine.head(names))


async def info_of(call: Call, options: InfoOptions) -> Answer:
    """Answer `/info`: its position is the end of the whole log, as an application may let a connection read on from it."""
    position = await call.node.engine.head(options.channels, all_shards=True)
    return await _described(call, options.channels, options, position)


async def _described(
    call: Call, names: Sequence[str] | None, options: InfoOptions, position: Position
) -> Answer:
    """Describe channels that are read behind `position`: what is accepted meanwhile is left to who resumes from there."""
    channels = await _chosen(call, names, options, options.include_users)
    return await _told(call, channels, await _pages(call, channels, options), options, position)


async def seed_info(call: Call, options: InfoOptions) -> Answer:
    """Describe channels as the 0.2 program did; its users are objects, the other keys those of 0.7."""
    position = await call.node.engine.head(options.channels, all_shards=True)
    channels = await _chosen(call, options.channels, options, with_users=True)
    pages = await _pages(call, channels, options)
    for page in pages.values():
        page.users = await _seed_users(call, page)
        await call.turns.due()
    told = await _told(call, channels, pages, options, position)
    unique: set[str] = set()
    await call.turns.each(channels, lambda channel: unique.update(channel.users))
    return told | {"unique_users": len(unique)}


@dataclass(slots=True)
class _Page:
    """Which users of a channel an answer names.

    Attributes:
        names: sorted.
        is_cut: whether more follow behind the last of them.
        users: what is told of them.
    """

    channel: str
    names: list[str]
    is_cut: bool
    users: Sequence[Any]


def _page(channel: Channel, after: str, most: int) -> _Page:
    left = [name for name in channel.users if name > after] if after else channel.users
    is_cut = len(left) > most
    names = nsmallest(most, left) if is_cut else sorted(left)
    return _Page(channel.name, names, is_cut, names)


async def _pages(call: Call, channels: Sequence[Channel], options: InfoOptions) -> dict[str, _Page]:
    def page(channel: Channel) -> tuple[str, _Page]:
        if not options.include_users:
            return channel.name, _Page(channel.name, [], is_cut=False, users=[])
        return channel.name, _page(channel, options.users_after, call.limits.info_users)

    return dict(await call.turns.each(channels, page))


async def _chosen(
    call: Call, names: Sequence[str] | None, options: InfoOptions, with_users: bool
) -> list[Channel]:
    excluded = set(options.exclude_channels)
    channels = await call.node.engine.channels(names, with_users)
    return [channel for channel in channels if channel.name not in excluded]


async def _told(
    call: Call,
    channels: Sequence[Channel],
    pages: Mapping[str, _Page],
    options: InfoOptions,
    position: Position,
) -> Answer:
    connections = await _connections(call, channels) if options.include_connections else {}
    as_json = _as_json if len(channels) > STEP else _as_it_is

    def describe(channel: Channel) -> tuple[str, Any]:
        told = _channel(channel, pages[channel.name], options, position) | connections.get(channel.name, {})
        return channel.name, told if _is_large(told) else as_json(told)

    step = 1 if options.include_history else STEP
    told: Answer = {"channels": dict(await call.turns.each(channels, describe, step))}
    members, is_cut = _all_members(pages.values(), STATES * call.limits.info_users)
    told["users"] = await _users(call, members, options)
    told["position"] = str(position)
    if is_cut:
        told["users_cut"] = True
    return told


def _as_it_is(told: Answer) -> Answer:
    return told


def _as_json(told: Answer) -> Raw:
    """Encode a part of a long answer in the turn that made it."""
    return Raw(encode(told))


def _all_members(pages: Collection[_Page], most: int) -> tuple[list[tuple[str, str]], bool]:
    """Return the users of all pages, sorted, each with one of its channels, and whether any are missing."""
    members: dict[str, str] = {}
    for page in pages:
        members |= dict.fromkeys(page.names, page.channel)
        if len(members) > most:
            return sorted(members.items())[:most], True
    return sorted(members.items()), any(page.is_cut for page in pages)


async def _users(call: Call, members: Sequence[tuple[str, str]], options: InfoOptions) -> list[Any]:
    as_json = _as_json if len(members) > STEP else _as_it_is
    engine = call.node.engine

    def state(user: User) -> Any:
        return as_json({"user": user.name, "state": _state(user, options)})

    return [
        told
        for start in range(0, len(members), LOOKUP)
        for told in await call.turns.each(await engine.states(dict(members[start : start + LOOKUP])), state)
    ]


def _state(user: User, options: InfoOptions) -> dict[str, Any]:
    return user.public_state if options.return_public_state else user.state


def _channel(channel: Channel, page: _Page, options: InfoOptions, position: Position) -> Answer:
    told: Answer = {
        "uuid": channel.id,
        "name": channel.name,
        "long_name": None,
        "settings": asdict(channel.settings),
        "history": [
            Raw(item(entry, Dialect.V07))
            for entry in channel.history.entries
            if entry.offset <= position.offsets[entry.shard]
        ]
        if options.include_history
        else [],
        "last_active": stamp(channel.last_active_s),
        "total_connections": channel.connections,
        "total_users": channel.user_count,
        "users": page.users,
        "position": str(position),
    }
    if page.is_cut:
        told["users_cut"] = True
    return told


async def _connections(call: Call, channels: Sequence[Channel]) -> dict[str, Answer]:
    """Return what each channel tells of its connections: as many as of its users."""
    told: dict[str, Answer] = {}
    most = call.limits.info_users
    for channel in channels:
        ids = list(await call.node.members(channel.name))
        told[channel.name] = {"connections": await _least(call, ids, most)} | (
            {"connections_cut": True} if len(ids) > most else {}
        )
        await call.turns.due()
    return told


async def _least(call: Call, names: Sequence[str], most: int) -> list[str]:
    """Return the first names in order, sorted slice by slice."""
    least: list[str] = []
    for start in range(0, len(names), LOOKUP):
        least = sorted([*least, *names[start : start + LOOKUP]])[:most]
        await call.turns.due()
    return least


async def _seed_users(call: Call, page: _Page) -> list[Any]:
    connections: dict[str, list[str]] = {}

    def count(member: tuple[str, str]) -> None:
        connections.setdefault(member[1], []).append(member[0])

    await call.turns.each(list((await call.node.members(page.channel)).items()), count)
    users: dict[str, User] = {}
    for start in range(0, len(page.names), LOOKUP):
        found = await call.node.engine.users(page.names[start : start + LOOKUP])
        users |= {user.name: user for user in found}
        await call.turns.due()
    as_json = _as_json if len(page.names) > STEP else _as_it_is

    def tell(name: str) -> Any:
        here = sorted(connections.get(name, ()))
        return as_json({"user": name, "status": _status(users.get(name)), "connections": here})

    return await call.turns.each(page.names, tell)


def _status(user: User | None) -> int:
    status = user.state.get("status") if user else None
    return status if isinstance(status, int) else 0
