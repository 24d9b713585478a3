"""The form of events in Redis, and how answers of the script become channels, users and entries.

The script reads and changes parts of an event (its users, its payload), so an event is sent to it in parts, each a JSON text
that Lua never has to parse. Field names and kinds are stored in Redis: they keep their names whatever the attributes here
are called.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

import msgspec
from msgspec import Raw, Struct

from channelstream.core.channel import Channel, ChannelSettings
from channelstream.core.events import (
    Event,
    Message,
    MessageDeleted,
    MessageEdited,
    Names,
    Presence,
    UsersLeft,
    UserStateChanged,
)
from channelstream.core.log import Budget, Entry, Log, LogLimits
from channelstream.core.position import Offsets, ReadRange, format_position, with_offset
from channelstream.core.registry import RegistryLimits
from channelstream.core.timestamps import stamp
from channelstream.core.user import MAX_STATE_BYTES, MAX_STATE_KEYS, StateValue, User, UserUpdate

BIG_BYTES = 64 << 10
"""The size from which on a payload does not pass through the script: it lies beside the log, under a token."""
_UNBOUNDED = 1 << 62
"""The budget of logs that were read from Redis: they were bounded there."""


class _Stored(Struct, tag_field="kind", omit_defaults=True):
    """The fields that all events have; the kinds are those of the script."""

    uuid: str
    channel: str | None = None
    only: Names | None = None
    exclude: Names | None = None


class _Message(_Stored, tag="message", kw_only=True):
    user: str
    payload: Raw = Raw()
    timestamp: str
    edited: str | None = None
    no_history: bool = False


class _Edited(_Stored, tag="edit", kw_only=True):
    edited: str
    user: str | None = None
    payload: Raw = Raw()
    timestamp: str | None = None


class _Deleted(_Stored, tag="delete"):
    pass


class _Presence(_Stored, tag="presence", kw_only=True):
    """Made by the script; `at` is the time in ms."""

    user: str
    joined: bool
    at: int
    state: dict[str, Any] | None
    users: tuple[tuple[str, dict[str, Any]], ...]
    users_cut: bool = False
    announced: bool


class _State(_Stored, tag="state", kw_only=True):
    """Made by the script; `at` is the time in ms."""

    user: str
    at: int
    state: dict[str, Any]
    changed: tuple[tuple[str, Any], ...]


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Message | _Edited | _Deleted | _Presence | _State).decode
_unpack = msgspec.msgpack.Decoder().decode
_settings = msgspec.json.Decoder(ChannelSettings).decode
_value = msgspec.json.Decoder().decode


def big_payload(event: Event) -> bytes | None:
    """Return the payload of an event if it is big enough to lie beside the log, otherwise None."""
    payload = event.payload if isinstance(event, Message | MessageEdited) else None
    return None if payload is None or len(payload) < BIG_BYTES else payload


def write_event(event: Event, token: str) -> dict[str, Any]:
    """Return an event as the operation `publish` takes it: JSON, in parts that edits and deletions replace or remove.

    Args:
        token: stands for a big payload.
    """
    kind, (user, payload, timestamp, edited) = _parts(event)
    fields: dict[str, Any] = {
        "kind": kind,
        "uuid": event.uuid,
        "channel": event.channel if event.channel is not None else False,
        "only": _names(event.only if event.channel is not None else event.only or frozenset()),
        "exclude": _names(event.exclude),
        "no_history": isinstance(event, Message) and event.no_history,
        "parts": [
            user.decode(),
            payload.decode() if len(payload) < BIG_BYTES else [token],
            timestamp.decode(),
            edited.decode(),
        ],
    }
    head = {"kind": kind, "uuid": event.uuid, "channel": event.channel, "no_history": fields["no_history"]}
    fields["head"] = _encode({key: value for key, value in head.items() if value})[:-1].decode()
    return fields


def _names(names: Names | None) -> list[str] | bool:
    return False if names is None else sorted(names)


def _parts(event: Event) -> tuple[str, Sequence[bytes]]:
    """Return the kind of an event and its parts: user, payload, timestamp, time of the edit, each JSON or empty.

    Raises:
        TypeError: it is an event that only the script makes.
    """
    match event:
        case MessageDeleted():
            return "delete", [b""] * 4
        case Message():
            kind = "message"
        case MessageEdited():
            kind = "edit"
        case Presence() | UsersLeft() | UserStateChanged():
            raise TypeError(event)
        case _:
            assert_never(event)
    return kind, [_text(event.user), event.payload or b"", _text(event.timestamp), _text(event.edited)]


def _text(value: str | None) -> bytes:
    return b"" if value is None else _encode(value)


def read_event(data: bytes, payload: bytes = b"") -> Event:
    """Return the event of a JSON text, with its payload where that is not in the text."""
    kept = _decode(data)
    common: dict[str, Any] = {
        "uuid": kept.uuid,
        "channel": kept.channel,
        "only": kept.only,
        "exclude": kept.exclude,
    }
    match kept:
        case _Message():
            return Message(
                **common,
                user=kept.user,
                payload=payload or bytes(kept.payload),
                timestamp=kept.timestamp,
                edited=kept.edited,
                no_history=kept.no_history,
            )
        case _Edited():
            return MessageEdited(
                **common,
                edited=kept.edited,
                user=kept.user,
                payload=payload or bytes(kept.payload) or None,
                timestamp=kept.timestamp,
            )
        case _Deleted():
            return MessageDeleted(**common)
        case _Presence():
            return Presence(
                **common,
                user=kept.user,
                joined=kept.joined,
                timestamp=stamp(kept.at / 1000),
                state=kept.state,
                users=kept.users,
                users_cut=kept.users_cut,
                announced=kept.announced,
            )
        case _State():
            return UserStateChanged(
                **common,
                user=kept.user,
                timestamp=stamp(kept.at / 1000),
                state=kept.state,
                changed=kept.changed,
            )
        case _:
            assert_never(kept)


@dataclass(frozen=True, slots=True)
class Origin:
    """The log that entries come from, for their positions.

    Attributes:
        offsets: the offsets delivered in all shards; 0 where they are not known.
    """

    epochs: tuple[str, ...]
    offsets: Offsets
    shard: int

    def entry(self, offset: bytes, at_ms: bytes, data: bytes, payload: bytes = b"") -> Entry:
        number = int(offset)
        offsets = with_offset(self.offsets, self.shard, number)
        position = format_position(self.epochs, offsets)
        return Entry(number, position, int(at_ms) / 1000, read_event(data, payload), self.shard, offsets)


def read_channel(origin: Origin, answer: Sequence[Any]) -> Channel:
    name, (channel_id, settings, active_ms, connections, always, floor), users, shown = answer
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
    for entry in sorted((origin.entry(*each) for each in shown), key=lambda entry: entry.offset):
        channel.history.append(entry)
    return channel


def read_user(answer: Sequence[Any]) -> User:
    """Return the user of an answer; without channels where they were too many for the answer."""
    name, user_id, public, active_ms, connections, state, channels = answer
    log = Log(LogLimits(0), Budget(_UNBOUNDED), 0)
    user = User(name.decode(), user_id.decode(), log, int(active_ms) / 1000)
    user.restore(
        {_value(key): _value(value) for key, value in pairs(state)},
        [_value(key) for key in _unpack(public)] if public else (),
    )
    user.channels = {channel.decode() for channel in channels or ()}
    user.connections = int(connections)
    return user


def read_state(answer: Sequence[Any]) -> User:
    """Return a user with only its state."""
    name, public, state = answer
    return read_user((name, b"", public, b"0", b"0", state, ()))


def read_changed(flat: Sequence[bytes]) -> list[tuple[str, StateValue]]:
    return [(_value(key), _value(value)) for key, value in pairs(flat)]


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
    }


def write_bounds(limits: RegistryLimits) -> dict[str, Any]:
    """Return the limits that the script enforces."""
    defaults = ChannelSettings(log_events=limits.log_events, log_age_s=limits.log_age_s)
    return {
        "settings": _encode(defaults).decode(),
        "history_size": limits.history_size,
        "transit_s": limits.transit_s,
        "user_log_events": limits.user_log_events,
        "log_age_s": limits.log_age_s,
        "state_keys": MAX_STATE_KEYS,
        "state_bytes": MAX_STATE_BYTES,
    }


def pairs(flat: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Return the fields and values of a hash as Redis answers them."""
    return zip(flat[::2], flat[1::2], strict=True)
