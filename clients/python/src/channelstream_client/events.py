"""What a stream tells, as frozen dataclasses; times are aware datetimes in UTC."""

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
    """A message; `channel` is None for one to this user alone."""

    position: str = ""
    uuid: str
    channel: str | None = None
    user: str
    timestamp: datetime = parsed_field(read_time)
    message: Any = None
    edited: datetime | None = parsed_field(read_time, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageEdited:
    """A message was changed; of `user`, `timestamp` and `message`, None means that it was not named."""

    position: str = ""
    uuid: str
    channel: str | None = None
    edited: datetime = parsed_field(read_time)
    user: str | None = None
    timestamp: datetime | None = parsed_field(read_time, default=None)
    message: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageDeleted:
    """A message was taken back."""

    position: str = ""
    uuid: str
    channel: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """A user came into a channel, or left it.

    Attributes:
        action: "joined" or "parted".
        state: public part of the user's state; None for one who parted.
        users: everybody who is there now, where the channel tells them.
        users_cut: it would, but they are too many.
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
    """A stream begins, or begins again; it comes first each time.

    Attributes:
        recovered: channels of which everything missed follows now; "" stands for private messages.
        lost: channels of which something may be missing: load them anew, for example by `info`.
    """

    position: str = ""
    recovered: Sequence[str] = ()
    lost: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherEvent:
    """An event of a kind this client does not know; `data` is its JSON."""

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
"""Events whose `message` holds a part of what they say."""
_SEED_PRESENCE = {"join": "joined", "part": "parted"}
"""How the seed dialect tells presence (docs/api.md, "Events")."""


def read_event(item: Any) -> Event:
    """Make an event of one item of a stream.

    Raises:
        BadAnswer: it is none.
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
