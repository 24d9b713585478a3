"""Descriptions of channels and their users: `/info`, and `channels_info` in other answers.

A channel lists at most `AppLimits.info_users` users, so an answer does not grow with the members of a channel. The work is
divided into short event loop turns, so it does not delay other requests or streams.
"""

from collections.abc import Collection, Mapping, Sequence
from heapq import nsmallest
from typing import Any, TypeVar

from msgspec import UNSET, Raw, Struct, UnsetType

from channelstream.api.answers import ChannelInfo, ChannelsInfo
from channelstream.api.call import Call
from channelstream.api.schemas import InfoOptions
from channelstream.apps.keys import may_have_member_keys, name_of
from channelstream.core.channel import Channel
from channelstream.core.position import Position
from channelstream.core.timestamps import stamp
from channelstream.core.user import User
from channelstream.http.parts import PART_BYTES, Parts, encode, in_parts
from channelstream.slices import STEP
from channelstream.wire.channelstream import V07
from channelstream.wire.framing import Framing
from channelstream.wire.protocols import PROTOCOLS

STATES = 10
"""An answer has the states of at most this many times `info_users` users, over all its channels."""
LOOKUP = 500
"""Users read from the engine in one step."""

_HISTORY = PROTOCOLS.format_of(V07, Framing.POLL)
"""The format of the items of a history, whose bytes it shares with the clients of that format."""

A = TypeVar("A", bound=Struct)


async def split_if_long(call: Call, answer: A, info: ChannelsInfo) -> A | Parts:
    """Return the answer, or its encoded parts if its description of channels is long.

    Args:
        info: the part of the answer that `channels_info` or `info_of` returned.
    """
    channels: Mapping[str, Any] = info.channels
    is_long = any(isinstance(channel, Raw) or _is_large(channel) for channel in channels.values())
    return await in_parts(answer, call.slices) if is_long or len(info.users) > STEP else answer


def _is_large(channel: ChannelInfo) -> bool:
    history: Sequence[Any] = channel.history
    return bool(history) and sum(memoryview(message).nbytes for message in history) > PART_BYTES


async def channels_info(call: Call, names: Sequence[str] | None, options: InfoOptions) -> ChannelsInfo:
    """Describe channels. `names` None means all channels; unknown names are skipped."""
    if names is None:
        position = await call.service.head()
        channels = await call.service.channels(None, options.include_users)
    else:
        channels, position = await call.service.channels_at(names, options.include_users)
    return await _describe(call, _not_excluded(channels, options), options, position)


def info_at_once(call: Call, names: Sequence[str], options: InfoOptions) -> ChannelsInfo | None:
    """Describe few channels as `channels_info` does, all of them in brief; None if that is not asked for, or has to wait."""
    is_brief = not (options.include_history or options.include_users or options.include_connections)
    has_all = options.channels is None and not options.exclude_channels
    found = call.service.channels_at_once(names) if is_brief and has_all and len(names) <= STEP else None
    if found is None:
        return None
    channels, position = found
    text, described = str(position), {}
    for channel in channels:
        name = name_of(channel.name)
        described[name] = _channel(channel, name, options, position, text)
    return ChannelsInfo(channels=described, users=[], position=text)


async def info_of(call: Call, options: InfoOptions) -> ChannelsInfo:
    """Answer `/info`. Its position is the end of the whole log, so that an application can pass it as `since`."""
    position = await call.service.head(options.channels, all_shards=True)
    channels = await _select(call, options.channels, options, options.include_users)
    return await _describe(call, channels, options, position)


async def _describe(
    call: Call, channels: Sequence[Channel], options: InfoOptions, position: Position
) -> ChannelsInfo:
    """Describe channels as of `position`, which is read before the channels are, or with them.

    Events accepted between the two reads are left out of the history: a client that resumes from `position` receives them.
    """
    pages = await _pages(call, channels, options) if options.include_users else {}
    return await _render(call, channels, pages, options, position)


async def seed_info(call: Call, options: InfoOptions) -> ChannelsInfo:
    """Describe channels in the 0.2 form: users are objects. The other keys are those of 0.7."""
    position = await call.service.head(options.channels, all_shards=True)
    channels = await _select(call, options.channels, options, with_users=True)
    pages = await _pages(call, channels, options) if options.include_users else {}
    for page in pages.values():
        page.users = await _seed_users(call, page)
        await call.slices.due()
    answer = await _render(call, channels, pages, options, position)
    unique: set[str] = set()
    await call.slices.each(channels, lambda channel: unique.update(channel.users))
    answer.unique_users = len(unique)
    return answer


class _Page(Struct):
    """The users of a channel that are part of an answer.

    Attributes:
        channel: its key.
        keys: those of the users, in the order of their names.
        has_more: whether the channel has users after the last one.
        users: how the answer describes them.
    """

    channel: str
    keys: list[str]
    has_more: bool
    users: list[Any]


def _page(channel: Channel, after: str, most: int) -> _Page:
    """Return the first users after a key."""
    left: Collection[str] = channel.users
    order = name_of if may_have_member_keys(left) else None
    if after:
        last = name_of(after)
        left = [key for key in left if (key > after if order is None else order(key) > last)]
    has_more = len(left) > most
    keys = nsmallest(most, left, order) if has_more else sorted(left, key=order)
    return _Page(channel.name, keys, has_more, list(map(name_of, keys)))


async def _pages(call: Call, channels: Sequence[Channel], options: InfoOptions) -> dict[str, _Page]:
    """Return the page of each channel."""
    after = options.users_after and call.service.app.key(options.users_after)

    def page(channel: Channel) -> tuple[str, _Page]:
        return name_of(channel.name), _page(channel, after, call.limits.info_users)

    return dict(await call.slices.each(channels, page))


async def _select(
    call: Call, names: Sequence[str] | None, options: InfoOptions, with_users: bool
) -> list[Channel]:
    return _not_excluded(await call.service.channels(names, with_users), options)


def _not_excluded(channels: list[Channel], options: InfoOptions) -> list[Channel]:
    if not options.exclude_channels:
        return channels
    excluded = set(options.exclude_channels)
    return [channel for channel in channels if name_of(channel.name) not in excluded]


async def _render(
    call: Call,
    channels: Sequence[Channel],
    pages: Mapping[str, _Page],
    options: InfoOptions,
    position: Position,
) -> ChannelsInfo:
    connections = await _connections(call, channels) if options.include_connections else {}
    as_json = _as_json if len(channels) > STEP else _unchanged
    position_text = str(position)

    def describe(channel: Channel) -> tuple[str, Any]:
        name = name_of(channel.name)
        described = _channel(channel, name, options, position, position_text)
        if page := pages.get(name):
            described.users = page.users
            described.users_cut = page.has_more or UNSET
        if name in connections:
            described.connections, described.connections_cut = connections[name]
        return name, described if _is_large(described) else as_json(described)

    step = 1 if options.include_history else STEP
    described = dict(await call.slices.each(channels, describe, step))
    members, has_more = await _all_members(call, pages.values())
    users = await _users(call, members, options)
    return ChannelsInfo(channels=described, users=users, position=position_text, users_cut=has_more or UNSET)


def _unchanged(answer: Any) -> Any:
    return answer


def _as_json(answer: Any) -> Raw:
    """Encode a part of a long answer at once: encoding the whole answer would take too long a turn."""
    return Raw(encode(answer))


async def _all_members(call: Call, pages: Collection[_Page]) -> tuple[list[tuple[str, str]], bool]:
    """Return the users of all pages, sorted, each with one of its channels, and whether users are missing; all are keys."""
    most = STATES * call.limits.info_users
    members: dict[str, str] = {}
    for page in pages:
        members |= dict.fromkeys(page.keys, page.channel)
        await call.slices.due()
        if len(members) > most:
            break
    users = sorted(members, key=name_of if may_have_member_keys(members) else None)
    has_more = len(users) > most or any(page.has_more for page in pages)
    return [(user, members[user]) for user in users[:most]], has_more


async def _users(call: Call, members: Sequence[tuple[str, str]], options: InfoOptions) -> list[Any]:
    as_json = _as_json if len(members) > STEP else _unchanged

    def state(user: User) -> Any:
        return as_json({"user": name_of(user.name), "state": _state(user, options)})

    return [
        described
        for start in range(0, len(members), LOOKUP)
        for described in await call.slices.each(
            await call.service.states(dict(members[start : start + LOOKUP])), state
        )
    ]


def _state(user: User, options: InfoOptions) -> dict[str, Any]:
    return user.public_state if options.return_public_state else user.state


def _channel(
    channel: Channel, name: str, options: InfoOptions, position: Position, position_text: str
) -> ChannelInfo:
    """Describe a channel without its users."""
    settings: Any = channel.settings
    history: list[Any] = []
    if options.include_history:
        history = [
            Raw(item)
            for entry in channel.history.entries
            if entry.offset <= position.offsets[entry.shard] and (item := _HISTORY.item(entry)) is not None
        ]
    return ChannelInfo(
        uuid=channel.id,
        name=name,
        long_name=None,
        settings=settings,
        history=history,
        last_active=stamp(channel.last_active_s),
        total_connections=channel.connections,
        total_users=channel.user_count,
        users=[],
        position=position_text,
    )


async def _connections(
    call: Call, channels: Sequence[Channel]
) -> dict[str, tuple[list[str], bool | UnsetType]]:
    """Return the connections of each channel, at most `info_users` of them, and whether it has more."""
    connections: dict[str, tuple[list[str], bool | UnsetType]] = {}
    most = call.limits.info_users
    for channel in channels:
        name = name_of(channel.name)
        ids = list(await call.service.members(name))
        connections[name] = await _least(call, ids, most), len(ids) > most or UNSET
        await call.slices.due()
    return connections


async def _least(call: Call, names: Sequence[str], most: int) -> list[str]:
    """Return the first `most` names in order, sorted slice by slice."""
    least: list[str] = []
    for start in range(0, len(names), LOOKUP):
        least = sorted([*least, *names[start : start + LOOKUP]])[:most]
        await call.slices.due()
    return least


async def _seed_users(call: Call, page: _Page) -> list[Any]:
    connections: dict[str, list[str]] = {}

    def count(member: tuple[str, str]) -> None:
        connections.setdefault(member[1], []).append(member[0])

    found = await call.service.members(name_of(page.channel))
    await call.slices.each(list(found.items()), count)
    users: dict[str, User] = {}
    for start in range(0, len(page.keys), LOOKUP):
        part = dict.fromkeys(page.keys[start : start + LOOKUP], page.channel)
        users |= {user.name: user for user in await call.service.states(part)}
        await call.slices.due()
    as_json = _as_json if len(page.keys) > STEP else _unchanged

    def row(key: str) -> Any:
        name = name_of(key)
        here = sorted(connections.get(name, ()))
        return as_json({"user": name, "status": _status(users.get(key)), "connections": here})

    return await call.slices.each(page.keys, row)


def _status(user: User | None) -> int:
    status = user.state.get("status") if user else None
    return status if isinstance(status, int) else 0
