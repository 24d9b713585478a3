"""The form of events in Redis.

The script replaces fields of an event (its users, its payload), so it keeps an event in parts, each a text that Lua
never has to parse. Put together they are the body and the payload of `event_codec.py`. The script formats and reads no JSON:
its answers, and what it publishes, are packed (MessagePack).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, assert_never

import msgspec
from msgspec import Struct

from channelstream.core.entry import Entry
from channelstream.core.events import Event, Message, Names, Presence, UserStateChanged
from channelstream.core.numbers import finite, read_any
from channelstream.core.position import Offsets, with_offset
from channelstream.core.timestamps import stamp
from channelstream.engines import event_codec
from channelstream.engines.event_codec import UnreadableEvent

BIG_BYTES = 64 << 10
"""The size from which on a payload does not pass through the script: it lies beside the log, under a token."""

Place = tuple[str, str]
"""A log: its kind (c for a channel, u for a user) and name."""

_encode = msgspec.json.Encoder().encode
_unpack = msgspec.msgpack.Decoder().decode
_states = msgspec.json.Decoder(list[dict[str, Any]], float_hook=finite).decode


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
    """A presence event, which the script makes; `at` is its time in ms. A state has its lines as `public_states`."""

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
        channel = read_any(first + "}").get("channel")
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
                users=tuple(zip(known.users[::2], public_states(known.users[1::2]), strict=True)),
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
                changed=tuple(
                    (read_any(key), read_any(value))
                    for key, value in zip(known.changed[::2], known.changed[1::2], strict=True)
                ),
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
    [state] = public_states([text])
    return state


def public_states(texts: Iterable[str]) -> list[dict[str, Any]]:
    """Return public states, in one call: a list has those of up to a thousand users.

    Each has a key and its value in a line, with a tab between. Both are JSON texts, so neither has a tab or a line break.
    """
    objects = ",".join(["{" + text + "}" for text in texts])
    return _states("[" + objects.replace("\t", ":").replace("\n", ",") + "]")


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
        return Entry(number, self.epochs, int(at_ms) / 1000, read_event(text, payload), self.shard, offsets)
