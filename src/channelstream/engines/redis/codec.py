"""The arguments and answers of the scripts: channels, users, their states, and what a connection has read."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from channelstream.core.budget import Budget
from channelstream.core.channel import Channel, ChannelSettings
from channelstream.core.entry import Entry
from channelstream.core.log import Log, LogLimits
from channelstream.core.numbers import read_any
from channelstream.core.position import ReadRange
from channelstream.core.registry_limits import RegistryLimits
from channelstream.core.user import MAX_STATE_BYTES, MAX_STATE_KEYS, State, StateValue, User, UserUpdate
from channelstream.engines.redis.event_text import public_states

_UNBOUNDED = 1 << 62
"""The budget of logs that were read from Redis: they were bounded there."""

_encode = msgspec.json.Encoder().encode
_unpack = msgspec.msgpack.Decoder().decode
_settings = msgspec.msgpack.Decoder(ChannelSettings).decode


def read_channel(answer: Sequence[Any], entries: Iterable[Entry]) -> Channel:
    """Return the channel of an answer, with the entries of its history."""
    name, (channel_id, settings, active_ms, connections, always, floor), users = answer
    known = _settings(settings)
    channel = Channel(
        name.decode(),
        channel_id.decode(),
        known,
        LogLimits(0),
        Budget(_UNBOUNDED),
        int(floor),
        int(active_ms) / 1000,
    )
    if isinstance(users, int):
        channel.set_user_count(users)
    else:
        counts = users.items() if isinstance(users, dict) else pairs(users)
        channel.users = {user.decode(): int(count) for user, count in counts}
    channel.connections = int(connections)
    channel.always_connections = int(always)
    for entry in sorted(entries, key=lambda entry: entry.offset):
        channel.history.append(entry)
    return channel


def read_user(answer: Sequence[Any]) -> User:
    """Return the user of an answer; without channels where they were too many for the answer."""
    name, user_id, public, active_ms, connections, state, channels = answer
    log = Log(LogLimits(0), Budget(_UNBOUNDED), 0)
    user = User(name.decode(), user_id.decode(), log, int(active_ms) / 1000)
    user.restore(
        {read_any(key): read_any(value) for key, value in pairs(state)},
        [read_any(key) for key in _unpack(public)] if public else (),
    )
    user.channels = {channel.decode() for channel in channels or ()}
    user.connections = int(connections)
    return user


def read_members(flat: Sequence[bytes]) -> list[tuple[str, State]]:
    """Return users with their public states, of names and states in turn."""
    names = [name.decode() for name in flat[::2]]
    return list(zip(names, public_states([text.decode() for text in flat[1::2]]), strict=True))


def read_state(answer: Sequence[Any]) -> User:
    """Return a user with only its state."""
    name, public, state = answer
    return read_user((name, b"", public, b"0", b"0", state, ()))


def read_changed(flat: Sequence[bytes]) -> list[tuple[str, StateValue]]:
    return [(read_any(key), read_any(value)) for key, value in pairs(flat)]


def encode_read_range(read_range: ReadRange | None) -> str | bool:
    """Return a read range as the script stores it; False where it is not known."""
    if read_range is None:
        return False
    return (
        str(read_range.joined)
        if read_range.since == read_range.joined
        else f"{read_range.joined} {read_range.since}"
    )


def decode_read_range(text: bytes) -> ReadRange:
    joined, _, since = text.partition(b" ")
    return ReadRange.of(int(joined), int(since) if since else None)


def write_state(values: Mapping[str, StateValue]) -> list[tuple[str, str]]:
    """Return keys and values as JSON texts, sorted by key: Lua would not distinguish 1 from 1.0, nor {} from []."""
    return [(write_key(key), _encode(value).decode()) for key, value in sorted(values.items())]


def write_key(key: str) -> str:
    return _encode(key).decode()


def write_update(update: UserUpdate) -> dict[str, Any]:
    keys = update.public_keys
    return {
        "values": write_state(update.values),
        "fresh": write_state(update.fresh),
        "public_keys": False if keys is None else [write_key(key) for key in dict.fromkeys(keys)],
        "add_public": [write_key(key) for key in update.add_public],
        "first": False if update.first is None else write_state(update.first),
    }


def write_bounds(limits: RegistryLimits) -> dict[str, Any]:
    """Return the limits that the script enforces."""
    defaults = ChannelSettings(log_events=limits.log_events, log_age_s=limits.log_age_s)
    return {
        "settings": msgspec.to_builtins(defaults),
        "history_size": limits.history_size,
        "transit_s": limits.transit_s,
        "user_log_events": limits.user_log_events,
        "private_age_s": limits.private_age_s,
        "state_keys": MAX_STATE_KEYS,
        "state_bytes": MAX_STATE_BYTES,
    }


def pairs(flat: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Return the fields and values of a hash as Redis answers them."""
    return zip(flat[::2], flat[1::2], strict=True)
