"""The form of events in Redis, and how answers of the script become channels, users and entries.

The script replaces fields of an event (its users, its payload), so it keeps an event in parts, each a text that Lua
never has to parse. Put together they are the body and the payload of `event_codec.py`. The script formats and reads no JSON:
its answers, and what it publishes, are packed (MessagePack).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

import msgspec
from msgspec import Struct

from channelstream.core.budget import Budget
from channelstream.core.channel import Channel, ChannelSettings
from channelstream.core.entry import Entry
from channelstream.core.events import Event, Message, Names, Presence, UserStateChanged
from channelstream.core.log import Log, LogLimits
from channelstream.core.position import Offsets, ReadRange, format_position, with_offset
from channelstream.core.registry_limits import RegistryLimits
from channelstream.core.timestamps import stamp
from channelstream.core.user import MAX_STATE_BYTES, MAX_STATE_KEYS, State, StateValue, User, UserUpdate
from channelstream.engines import event_codec
from channelstream.engines.event_codec import UnreadableEvent

BIG_BYTES = 64 << 10
"""The size from which on a payload does not pass through the script: it lies beside the log, under a token."""
_UNBOUNDED = 1 << 62
"""The budget of logs that were read from Redis: they were bounded there."""


Place = tuple[str, str]
"""A log: its kind (c for a channel, u for a user) and name."""

_encode = msgspec.json.Encoder().encode
_unpack = msgspec.msgpack.Decoder().decode
_settings = msgspec.msgpack.Decoder(ChannelSettings).decode
_value = msgspec.json.Decoder().decode
_states = msgspec.json.Decoder(list[dict[str, Any]]).decode


def big_payload(event: Event) -> bytes | None:
    """Return the payload of an event if it is big enough to lie beside the log, otherwise None."""
    payload = event_codec.payload_of(event)
    return None if payload is None or len(payload) < BIG_BYTES else payload


def write_event(event: Event, token: str) -> dict[str, Any]:
    """Return an event as the operation `publish` takes it: what edits and deletions replace is beside the other fields.

    Args:
        token: stands for a big payload.
    """
    body, payload = event_codec.encode(event)
    fields = event_codec.fields_of(body)
    user, timestamp, edited = (
        bytes(fields.pop(name, b"")).decode() for name in ("user", "timestamp", "edited")
    )
    fields.pop("only", None)
    fields.pop("exclude", None)
    text = (payload or b"").decode() if big_payload(event) is None else [token]
    return {
        "kind": event_codec.kind_of(event),
        "uuid": event.uuid,
        "channel": event.channel if event.channel is not None else False,
        "only": _names(event.only if event.channel is not None else event.only or frozenset()),
        "exclude": _names(event.exclude),
        "no_history": isinstance(event, Message) and event.no_history,
        "parts": [user, text, timestamp, edited],
        "head": event_codec.join(fields)[:-1].decode(),
    }


def _names(names: Names | None) -> list[str] | bool:
    return False if names is None else sorted(names)


class _Record(Struct, array_like=True, tag="record"):
    """A message, an edit or a deletion: its body without the other fields and the closing brace, and these."""

    head: str
    only: list[str] | bool
    exclude: list[str] | bool
    parts: tuple[str, str | list[str], str, str]


class _Presence(Struct, array_like=True, tag="presence"):
    """A presence event, which the script makes; `at` is its time in ms. A state has its lines as `_public_states`."""

    uuid: str
    channel: str
    user: str
    state: str | bool
    users: list[str]
    users_cut: bool
    announced: bool
    at: int


class _State(Struct, array_like=True, tag="state"):
    """A change of state, which the script makes, as `_Presence`."""

    uuid: str
    channel: str
    user: str
    state: str
    changed: list[str]
    at: int


_read_text = msgspec.msgpack.Decoder(_Record | _Presence | _State).decode


def read_event(text: bytes, payload: bytes = b"") -> Event:
    """Return the event of a text of the script, with its payload where that lies beside the log.

    Raises:
        UnreadableEvent: it has no form that this version knows, such as one of a newer version.
    """
    try:
        return _read_known(_read_text(text), payload)
    except UnreadableEvent:
        raise
    except (ValueError, TypeError) as error:
        raise UnreadableEvent("an event that this version of channelstream cannot read") from error


def logs_of(text: bytes) -> list[Place]:
    """Return the logs in which an unreadable event is, as far as its text shows them."""
    try:
        kind, first, second, *_ = _unpack(text)
        if kind != "record":
            return [("c", str(second))]
        channel = _value(first + "}").get("channel")
        return [("u", name) for name in second] if channel is None else [("c", channel)]
    except (ValueError, TypeError, AttributeError):
        return []


def _read_known(known: "_Record | _Presence | _State", payload: bytes) -> Event:
    match known:
        case _Record():
            return _read_record(known, payload)
        case _Presence():
            return Presence(
                uuid=known.uuid,
                channel=known.channel,
                user=known.user,
                joined=known.state is not False,
                timestamp=stamp(known.at / 1000),
                state=_public_state(known.state) if isinstance(known.state, str) else None,
                users=tuple(zip(known.users[::2], _public_states(known.users[1::2]), strict=True)),
                users_cut=known.users_cut,
                announced=known.announced,
            )
        case _State():
            return UserStateChanged(
                uuid=known.uuid,
                channel=known.channel,
                user=known.user,
                timestamp=stamp(known.at / 1000),
                state=_public_state(known.state),
                changed=tuple((_value(key), _value(value)) for key, value in _in_pairs(known.changed)),
            )
        case _:
            assert_never(known)


def _read_record(record: _Record, payload: bytes) -> Event:
    """Return the event of a record: its body and payload, put together again."""
    body = [record.head.encode()]
    for name, users in (("only", record.only), ("exclude", record.exclude)):
        if users is not False:
            body.append(b'"%b":%b' % (name.encode(), _encode(users)))
    user, text, timestamp, edited = record.parts
    for name, value in (("user", user), ("timestamp", timestamp), ("edited", edited)):
        if value:
            body.append(b'"%b":%b' % (name.encode(), value.encode()))
    inline = text.encode() if isinstance(text, str) else b""
    return event_codec.decode(b",".join(body) + b"}", payload or inline or None)


def _public_state(text: str) -> dict[str, Any]:
    """Return the public state of one user."""
    [state] = _public_states([text])
    return state


def _public_states(texts: Iterable[str]) -> list[dict[str, Any]]:
    """Return public states, in one call: a list has those of up to a thousand users.

    Each has a key and its value in a line, with a tab between. Both are JSON texts, so neither has a tab or a line break.
    """
    objects = ",".join(["{" + text + "}" for text in texts])
    return _states("[" + objects.replace("\t", ":").replace("\n", ",") + "]")


def _in_pairs(flat: Sequence[str]) -> Iterator[tuple[str, str]]:
    return zip(flat[::2], flat[1::2], strict=True)


@dataclass(frozen=True, slots=True)
class Origin:
    """The log that entries come from, for their positions.

    Attributes:
        offsets: the offsets delivered in all shards; 0 where they are not known.
    """

    epochs: tuple[str, ...]
    offsets: Offsets
    shard: int

    def entry(self, offset: bytes, at_ms: bytes, text: bytes, payload: bytes = b"") -> Entry:
        number = int(offset)
        offsets = with_offset(self.offsets, self.shard, number)
        position = format_position(self.epochs, offsets)
        return Entry(number, position, int(at_ms) / 1000, read_event(text, payload), self.shard, offsets)


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
        {_value(key): _value(value) for key, value in pairs(state)},
        [_value(key) for key in _unpack(public)] if public else (),
    )
    user.channels = {channel.decode() for channel in channels or ()}
    user.connections = int(connections)
    return user


def read_members(flat: Sequence[bytes]) -> list[tuple[str, State]]:
    """Return users with their public states, of names and states in turn."""
    names = [name.decode() for name in flat[::2]]
    return list(zip(names, _public_states([text.decode() for text in flat[1::2]]), strict=True))


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
        "log_age_s": limits.log_age_s,
        "state_keys": MAX_STATE_KEYS,
        "state_bytes": MAX_STATE_BYTES,
    }


def pairs(flat: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Return the fields and values of a hash as Redis answers them."""
    return zip(flat[::2], flat[1::2], strict=True)
