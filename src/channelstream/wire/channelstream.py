"""This server's own protocol: the JSON item of an event for each dialect, and the framings around items.

Keys and types are those of the two older generations (spec/vectors/items.json has every form).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from itertools import product
from typing import Any, assert_never

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType
from msgspec.structs import replace

from channelstream.core.client_protocol import ClientProtocol, PresenceAudience
from channelstream.core.events import (
    Event,
    Message,
    MessageDeleted,
    MessageEdited,
    Presence,
    UsersLeft,
    UserStateChanged,
)
from channelstream.core.log import Entry
from channelstream.wire.deflate import compress
from channelstream.wire.websocket import Opcode, frame, text_frame

DEFLATE_FROM_BYTES = 256
"""Shortest list of items that is compressed: below, deflate saves a few bytes and costs as much as the delivery."""

_encode = msgspec.json.Encoder().encode

_SingleEvent = Message | MessageEdited | MessageDeleted | Presence | UserStateChanged
"""An event that is one item."""


class Dialect(IntEnum):
    """A generation of the protocol (docs/api.md, "Compatibility with older programs")."""

    SEED = 0
    V07 = 1


SEED = ClientProtocol("seed", PresenceAudience.ALWAYS)
V07 = ClientProtocol("v07", PresenceAudience.IF_ANNOUNCED)
DIALECTS = {SEED.name: Dialect.SEED, V07.name: Dialect.V07}
"""The dialect of each protocol by its name, under which engines store it."""


class Framing(IntEnum):
    """How items are framed: as a WebSocket text frame, an SSE block or the body of a long poll."""

    WEBSOCKET = 0
    SSE = 1
    POLL = 2
    DEFLATE = 3
    """A WebSocket text frame for a client that has negotiated permessage-deflate."""


class _Item(Struct, omit_defaults=True):
    """One item of the list that a client receives; a key that is UNSET is left out."""

    type: str
    position: str
    uuid: str
    channel: str | UnsetType | None = UNSET
    timestamp: str | UnsetType = UNSET
    date: str | UnsetType = UNSET
    user: str | UnsetType = UNSET
    users: list[dict[str, Any]] | Raw | UnsetType = UNSET
    users_cut: bool = False
    message: Any = UNSET
    state: dict[str, Any] | UnsetType | None = UNSET
    edited: str | UnsetType | None = UNSET
    catchup: bool | UnsetType = UNSET


def item(entry: Entry, dialect: Dialect) -> bytes:
    """Return the JSON object that a live connection of this dialect is sent.

    For a `UsersLeft` it is several objects with commas between them.
    """
    return _encoded(entry, dialect, catchup=False)


def catchup_item(entry: Entry, dialect: Dialect) -> bytes:
    """Return the form with `catchup: true`, which clients of the older generations are sent after an absence."""
    return _encoded(entry, dialect, catchup=True)


def _encoded(entry: Entry, dialect: Dialect, catchup: bool) -> bytes:
    event = entry.event
    if not isinstance(event, UsersLeft):
        return _encode(_build(event, entry.position, dialect, catchup))
    users = Raw(_encode(_listed(event.users)))  # Once: every item has the same list, which may be long.
    items: list[bytes] = []
    for single in entry.with_event(replace(event, users=())).split():
        assert isinstance(single.event, Presence)  # noqa: S101 - for the types
        built = _build(single.event, single.position, dialect, catchup)
        if built.users is not UNSET:
            built.users = users
        items.append(_encode(built))
    return b",".join(items)


def _listed(users: Iterable[tuple[str, dict[str, Any]]]) -> list[dict[str, Any]]:
    return [{"user": name, "state": state} for name, state in users]


def _build(event: _SingleEvent, position: str, dialect: Dialect, catchup: bool) -> _Item:
    built = _fields(event, dialect)
    built.position = position
    if catchup or not isinstance(event, MessageEdited | MessageDeleted):
        built.catchup = catchup
    if dialect is Dialect.SEED and built.timestamp is not UNSET:
        built.date = built.timestamp
    return built


def _fields(event: _SingleEvent, dialect: Dialect) -> _Item:
    match event:
        case Message():
            return _message(event, dialect)
        case MessageEdited():
            return _edited(event, dialect)
        case MessageDeleted():
            return _deleted(event, dialect)
        case Presence():
            return _presence(event, dialect)
        case UserStateChanged():
            return _state_changed(event)
        case _:
            assert_never(event)


def _message(event: Message, dialect: Dialect) -> _Item:
    return _Item(
        "message",
        "",
        event.uuid,
        channel=_channel(event, dialect),
        timestamp=event.timestamp,
        user=event.user,
        message=_payload(event.payload, dialect),
        edited=event.edited,
    )


def _edited(event: MessageEdited, dialect: Dialect) -> _Item:
    built = _Item("message:edit", "", event.uuid, channel=_channel(event, dialect), edited=event.edited)
    if event.user is not None:
        built.user = event.user
    if event.payload is not None:
        built.message = _payload(event.payload, dialect)
    if event.timestamp is not None:
        built.timestamp = event.timestamp
    return built


def _deleted(event: MessageDeleted, dialect: Dialect) -> _Item:
    return _Item("message:delete", "", event.uuid, channel=_channel(event, dialect))


def _presence(event: Presence, dialect: Dialect) -> _Item:
    built = _Item(
        "presence", "", event.uuid, channel=event.channel, timestamp=event.timestamp, user=event.user
    )
    if dialect is Dialect.SEED:
        built.type = "join" if event.joined else "part"
        built.message = None
    else:
        built.message = {"action": "joined" if event.joined else "parted"}
        built.users = _listed(event.users)
        built.users_cut = event.users_cut
        built.state = event.state
    return built


def _state_changed(event: UserStateChanged) -> _Item:
    changed = [{"key": key, "value": value} for key, value in event.changed]
    return _Item(
        "user_state_change",
        "",
        event.uuid,
        channel=event.channel,
        timestamp=event.timestamp,
        user=event.user,
        message={"state": event.state, "changed": changed},
    )


def _channel(event: Event, dialect: Dialect) -> str | UnsetType | None:
    """Return the value of `channel`: for a private message the seed dialect has no key, 0.7.1 has null."""
    return UNSET if event.channel is None and dialect is Dialect.SEED else event.channel


def _payload(payload: bytes, dialect: Dialect) -> Raw:
    """Return the payload; 0.7.1 gets an empty object for null, as its pages read `message.x` of every message."""
    return Raw(b"{}") if payload == b"null" and dialect is Dialect.V07 else Raw(payload)


def websocket_frame(items: Iterable[bytes], _position: str | None = None) -> bytes:
    return text_frame(json_list(items))


def deflated_frame(items: Iterable[bytes], _position: str | None = None) -> bytes:
    """Return a compressed frame, or a plain one if it is short; a bit in the frame tells them apart (RFC 7692, 6)."""
    payload = json_list(items)
    if len(payload) < DEFLATE_FROM_BYTES:
        return text_frame(payload)
    return frame(Opcode.TEXT, compress(payload), rsv1=True)


def sse_block(items: Iterable[bytes], position: str | None = None) -> bytes:
    """Return one event of an event stream; without a position it does not change the client's Last-Event-ID.

    Compact JSON has no line breaks, so it fits into one `data:` line (HTML Living Standard, 9.2.6).
    """
    head = b"" if position is None else b"id: %b\n" % position.encode()
    return b"%bdata: %b\n\n" % (head, json_list(items))


def json_list(items: Iterable[bytes], _position: str | None = None) -> bytes:
    return b"[%b]" % b",".join(items)


_ENCLOSE: dict[Framing, Callable[[Iterable[bytes], str | None], bytes]] = {
    Framing.WEBSOCKET: websocket_frame,
    Framing.DEFLATE: deflated_frame,
    Framing.SSE: sse_block,
    Framing.POLL: json_list,
}
"""Encloses items in each framing, with the position of the last one if the framing has a field for it."""
_HEARTBEATS = {framing: enclose([], None) for framing, enclose in _ENCLOSE.items()}
_NAMES = {
    Framing.WEBSOCKET: "WebSocket",
    Framing.DEFLATE: "WebSocket, compressed",
    Framing.SSE: "SSE",
    Framing.POLL: "long poll",
}


@dataclass(frozen=True, slots=True)
class ChannelstreamFormat:
    """A format of this protocol (`core.format.Format`)."""

    number: int
    form: int
    dialect: Dialect
    framing: Framing

    @property
    def name(self) -> str:
        return _NAMES[self.framing]

    @property
    def heartbeat(self) -> bytes:
        return _HEARTBEATS[self.framing]

    def item(self, entry: Entry) -> bytes | None:
        return entry.item(self.form, _ITEMS[self.dialect])

    def catchup_item(self, entry: Entry) -> bytes:
        return catchup_item(entry, self.dialect)

    def resumed(self, position: str, recovered: Sequence[str], lost: Sequence[str]) -> bytes:
        return _encode({"type": "resumed", "position": position, "recovered": recovered, "lost": lost})

    def closing(self, code: int, reason: str) -> bytes:
        return _encode({"type": "closing", "code": code, "reason": reason})

    def enclose(self, items: Sequence[bytes], position: str | None) -> bytes:
        return _ENCLOSE[self.framing](items, position)


_ITEMS: dict[Dialect, Callable[[Entry], bytes]] = {
    dialect: partial(item, dialect=dialect) for dialect in Dialect
}


def formats(number: int, form: int) -> Iterator[ChannelstreamFormat]:
    """Yield all formats of this protocol.

    Args:
        number: of the first format.
        form: the number of the first form of items; each dialect has one.
    """
    for offset, (dialect, framing) in enumerate(product(Dialect, Framing)):
        yield ChannelstreamFormat(number + offset, form + dialect, dialect, framing)
