"""The events of a stream, as frozen dataclasses. Times are aware datetimes in UTC."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from channelstream_client.errors import BadAnswer
from channelstream_client.model import State, StateChange
from channelstream_client.reading import parsed_field, read, read_list, read_time


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageEvent:
    """A message; `channel` is None for a private message.

    Attributes:
        traceparent: the W3C trace context of the call that published it, if that call asked for it.
    """

    position: str = ""
    uuid: str
    channel: str | None = None
    user: str
    timestamp: datetime = parsed_field(read_time)
    message: Any = None
    edited: datetime | None = parsed_field(read_time, default=None)
    traceparent: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageEdited:
    """A message was edited. None for `user`, `timestamp` or `message` means that it did not change."""

    position: str = ""
    uuid: str
    channel: str | None = None
    edited: datetime = parsed_field(read_time)
    user: str | None = None
    timestamp: datetime | None = parsed_field(read_time, default=None)
    message: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageDeleted:
    """A message was deleted."""

    position: str = ""
    uuid: str
    channel: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """A user joined or left a channel.

    Attributes:
        action: "joined" or "parted".
        state: public part of the user's state; None after "parted".
        users: all members, if the channel has `broadcast_presence_with_user_lists`.
        users_cut: the channel has the setting, but too many members for a list.
    """

    position: str = ""
    channel: str
    user: str
    action: str
    timestamp: datetime = parsed_field(read_time)
    state: State | None = None
    users: Sequence[Any] = ()
    users_cut: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class UserStateChanged:
    """A user's public state changed; `state` is all of it."""

    position: str = ""
    channel: str
    user: str
    timestamp: datetime = parsed_field(read_time)
    state: State
    changed: Sequence[StateChange] = parsed_field(partial(read_list, StateChange))


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """A stream has been opened or resumed. It is the first event each time.

    An `Acting` has one more where something is lost of channels that it has joined from a position.

    Attributes:
        recovered: channels whose missed events all follow now; "" means private messages.
        lost: channels whose events may be missing. Load them again, for example by `info`.
    """

    position: str = ""
    recovered: Sequence[str] = ()
    lost: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherEvent:
    """An event of a type that this client does not know; `data` is its JSON."""

    position: str = ""
    type: str
    data: Mapping[str, Any]


Event = MessageEvent | MessageEdited | MessageDeleted | Presence | UserStateChanged | Resumed | OtherEvent

_PLAIN: dict[str, type[MessageEvent | MessageEdited | MessageDeleted | Resumed]] = {
    "message": MessageEvent,
    "message:edit": MessageEdited,
    "message:delete": MessageDeleted,
    "resumed": Resumed,
}
_WITHIN: dict[str, type[Presence | UserStateChanged]] = {
    "presence": Presence,
    "user_state_change": UserStateChanged,
}
"""Events that have a part of their fields inside `message`."""
_SEED_PRESENCE = {"join": "joined", "part": "parted"}
"""The presence events of the 0.2 protocol (docs/api.md, "Events")."""


def read_event(item: Any) -> Event:
    """Convert an item of a stream to an event.

    Raises:
        BadAnswer: the item is not an event.
    """
    if not isinstance(item, dict):
        raise BadAnswer(f"expected an event, got {item!r:.80}")
    kind = str(item.get("type", ""))
    if kind in _PLAIN:
        return read(_PLAIN[kind], item)
    if kind in _SEED_PRESENCE:
        return read(Presence, {**item, "action": _SEED_PRESENCE[kind]})
    if kind in _WITHIN:
        return read(_WITHIN[kind], _with_message(item))
    return OtherEvent(position=item.get("position", ""), type=kind, data=item)


def _with_message(item: dict[str, Any]) -> dict[str, Any]:
    inner = item.get("message")
    return {**item, **inner} if isinstance(inner, dict) else item
