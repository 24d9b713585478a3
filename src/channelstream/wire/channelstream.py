"""This server's own protocols, one for each of the two older generations of clients: the JSON items, formats, sessions.

Fields and types are those of these generations (spec/vectors/items.json has every form). Events hold keys of channels and
users (`apps.keys`); items have their names.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, assert_never

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType
from msgspec.structs import replace

from channelstream.apps.keys import name_of
from channelstream.core.client_protocol import ClientProtocol, PresenceAudience
from channelstream.core.entry import Entry
from channelstream.core.events import (
    Event,
    Message,
    MessageDeleted,
    MessageEdited,
    Presence,
    UsersLeft,
    UserStateChanged,
)
from channelstream.core.format import Format
from channelstream.wire.client_commands import Action, ClientCommand, Outcome
from channelstream.wire.client_session import LineRules, Start, WireProtocol
from channelstream.wire.frames import close_frame
from channelstream.wire.framing import Framing

_encode = msgspec.json.Encoder().encode

_SingleEvent = Message | MessageEdited | MessageDeleted | Presence | UserStateChanged
"""An event that is one item."""


SEED = ClientProtocol("seed", PresenceAudience.ALWAYS)
"""That of the first generation."""
V07 = ClientProtocol("v07", PresenceAudience.IF_ANNOUNCED)
"""That of the second generation, channelstream 0.7."""


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
    traceparent: str | UnsetType = UNSET


def item(entry: Entry, protocol: ClientProtocol) -> bytes:
    """Return the JSON object that a live connection of this protocol is sent.

    For a `UsersLeft` it is several objects with commas between them.
    """
    return _encoded(entry, protocol, catchup=False)


def catchup_item(entry: Entry, protocol: ClientProtocol) -> bytes:
    """Return the form with `catchup: true`, which clients of the older generations are sent after an absence."""
    return _encoded(entry, protocol, catchup=True)


def _encoded(entry: Entry, protocol: ClientProtocol, catchup: bool) -> bytes:
    event = entry.event
    if not isinstance(event, UsersLeft):
        return _encode(_build(event, entry.position, protocol, catchup))
    users = Raw(_encode(_listed(event.users)))  # Once: every item has the same list, which may be long.
    items: list[bytes] = []
    for single in entry.with_event(replace(event, users=())).split():
        assert isinstance(single.event, Presence)  # noqa: S101 - for the types
        built = _build(single.event, single.position, protocol, catchup)
        if built.users is not UNSET:
            built.users = users
        items.append(_encode(built))
    return b",".join(items)


def _listed(users: Iterable[tuple[str, dict[str, Any]]]) -> list[dict[str, Any]]:
    return [{"user": name_of(key), "state": state} for key, state in users]


def _build(event: _SingleEvent, position: str, protocol: ClientProtocol, catchup: bool) -> _Item:
    built = _fields(event, protocol)
    built.position = position
    if catchup or not isinstance(event, MessageEdited | MessageDeleted):
        built.catchup = catchup
    if protocol is SEED and built.timestamp is not UNSET:
        built.date = built.timestamp
    return built


def _fields(event: _SingleEvent, protocol: ClientProtocol) -> _Item:
    match event:
        case Message():
            return _message(event, protocol)
        case MessageEdited():
            return _edited(event, protocol)
        case MessageDeleted():
            return _deleted(event, protocol)
        case Presence():
            return _presence(event, protocol)
        case UserStateChanged():
            return _state_changed(event, protocol)
        case _:
            assert_never(event)


def _message(event: Message, protocol: ClientProtocol) -> _Item:
    return _Item(
        "message",
        "",
        event.uuid,
        channel=_channel(event, protocol),
        timestamp=event.timestamp,
        user=name_of(event.user),
        message=_payload(event.payload, protocol),
        edited=event.edited,
        traceparent=event.traceparent or UNSET,
    )


def _edited(event: MessageEdited, protocol: ClientProtocol) -> _Item:
    built = _Item("message:edit", "", event.uuid, channel=_channel(event, protocol), edited=event.edited)
    if event.user is not None:
        built.user = name_of(event.user)
    if event.payload is not None:
        built.message = _payload(event.payload, protocol)
    if event.timestamp is not None:
        built.timestamp = event.timestamp
    return built


def _deleted(event: MessageDeleted, protocol: ClientProtocol) -> _Item:
    return _Item("message:delete", "", event.uuid, channel=_channel(event, protocol))


def _presence(event: Presence, protocol: ClientProtocol) -> _Item:
    built = _Item(
        "presence",
        "",
        event.uuid,
        channel=_channel(event, protocol),
        timestamp=event.timestamp,
        user=name_of(event.user),
    )
    if protocol is SEED:
        built.type = "join" if event.joined else "part"
        built.message = None
    else:
        built.message = {"action": "joined" if event.joined else "parted"}
        built.users = _listed(event.users)
        built.users_cut = event.users_cut
        built.state = event.state
    return built


def _state_changed(event: UserStateChanged, protocol: ClientProtocol) -> _Item:
    changed = [{"key": key, "value": value} for key, value in event.changed]
    return _Item(
        "user_state_change",
        "",
        event.uuid,
        channel=_channel(event, protocol),
        timestamp=event.timestamp,
        user=name_of(event.user),
        message={"state": event.state, "changed": changed},
    )


def _channel(event: Event, protocol: ClientProtocol) -> str | UnsetType | None:
    """Return the value of `channel`: for a private message the first generation has no key, 0.7.1 has null."""
    if event.channel is not None:
        return name_of(event.channel)
    return UNSET if protocol is SEED else None


def _payload(payload: bytes, protocol: ClientProtocol) -> Raw:
    """Return the payload; 0.7.1 gets an empty object for null, as its pages read `message.x` of every message."""
    return Raw(b"{}") if payload == b"null" and protocol is V07 else Raw(payload)


def json_list(items: Iterable[bytes]) -> bytes:
    return b"[%b]" % b",".join(items)


def resumed_item(position: str, recovered: Sequence[str], lost: Sequence[str]) -> bytes:
    names = {"recovered": list(map(name_of, recovered)), "lost": list(map(name_of, lost))}
    return _encode({"type": "resumed", "position": position, **names})


def closing_item(code: int | None, reason: str) -> bytes:
    return _encode({"type": "closing", "code": code, "reason": reason})


@dataclass(frozen=True, slots=True)
class ChannelstreamFormat:
    """A format of one of these protocols (`core.format.Format`): lists of items."""

    number: int
    form: int
    framing: Framing
    make: Callable[[Entry], bytes]

    @property
    def name(self) -> str:
        return self.framing.transport

    def item(self, entry: Entry) -> bytes | None:
        return entry.item(self.form, self.make)

    def enclose(self, items: Sequence[bytes], position: str | None) -> bytes:
        return self.framing.enclose(json_list(items), position)


@dataclass(frozen=True, slots=True)
class ChannelstreamSession:
    """A session of one of these protocols (`ClientSession`); it has no state, so the streams of a format share it."""

    format: Format
    heartbeat: bytes
    framing: Framing
    protocol: ClientProtocol
    rules = LineRules(frames_per_s=1.0)  # Heartbeats of older clients come every few seconds.
    state = b""

    def opened(self, _conn_id: str) -> bytes:
        """Return nothing: the client knows its id, as the application has asked for it."""
        return b""

    def resumed(self, position: str, recovered: Sequence[str], lost: Sequence[str]) -> bytes:
        return self.format.enclose([resumed_item(position, recovered, lost)], position)

    def catchup_item(self, entry: Entry) -> bytes:
        return catchup_item(entry, self.protocol)

    def closing(self, code: int | None, reason: str) -> bytes:
        """Return a close frame; on a transport without close codes a last item."""
        if self.framing.is_websocket:
            return close_frame(code, reason)
        return self.format.enclose([closing_item(code, reason)], None)

    def receive(self, _text: bytes | bytearray) -> tuple[ClientCommand, ...]:
        """Return nothing: clients send heartbeats, which only show that they are there."""
        return ()

    def reply(self, _command: Action, _outcome: Outcome) -> bytes:
        """Return nothing, as no text asks for anything."""
        return b""

    def joined(self, writes: Sequence[bytes]) -> bytes:
        """Return one list with the items of all lists, for the body of a long poll."""
        return json_list(items for write in writes if (items := write[1:-1]))


def protocols(number: int, form: int) -> Iterator[WireProtocol]:
    """Yield the rows of these protocols.

    Args:
        number: of the first format.
        form: the number of the first form of items; each protocol has one.
    """
    for offset, (client, title) in enumerate(((SEED, "first generation"), (V07, "0.7"))):
        yield _protocol(client, title, number + offset * len(Framing), form + offset)


def _protocol(client: ClientProtocol, title: str, number: int, form: int) -> WireProtocol:
    make = partial(item, protocol=client)
    formats = {
        framing: ChannelstreamFormat(number + offset, form, framing, make)
        for offset, framing in enumerate(Framing)
    }
    sessions = {
        framing: ChannelstreamSession(format_, format_.enclose([], None), framing, client)
        for framing, format_ in formats.items()
    }

    def session(framing: Framing, _start: Start) -> ChannelstreamSession:
        return sessions[framing]

    return WireProtocol(client, title, formats, session, formats[Framing.POLL].item)
