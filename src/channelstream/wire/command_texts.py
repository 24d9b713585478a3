"""What the texts of clients with a token mean: JSON objects, or lists of them, each a command with an `id` of the client.

An object without `id` whose `type` is no command is ignored, as the `{"type": "heartbeat"}` of older generations is.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Final, get_args

import msgspec
from msgspec import UNSET, Meta, Raw, Struct

from channelstream.core.ids import MAX_CONN_ID, normalize_uuid
from channelstream.core.numbers import finite, read_any
from channelstream.core.position import MAX_TEXT
from channelstream.core.user import MAX_STATE_KEYS, StateValue
from channelstream.wire.client_commands import (
    Action,
    Info,
    Publish,
    Ref,
    Refresh,
    SetState,
    Subscribe,
    Unsubscribe,
)
from channelstream.wire.cut_texts import lenient

MAX_CHANNELS: Final = 100
"""Most channels that one command names."""
MAX_ID: Final = 128
"""Longest id of a command that is a text, in characters."""
MAX_INTEGER: Final = 2**53 - 1
"""Largest id of a command that is a number: a JavaScript client reads larger ones as others."""

_Id = Annotated[str, Meta(max_length=MAX_ID)] | Annotated[int, Meta(ge=-MAX_INTEGER, le=MAX_INTEGER)] | None
_Name = Annotated[str, Meta(min_length=1, max_length=256)]
_Channels = Annotated[list[_Name], Meta(min_length=1, max_length=MAX_CHANNELS)]
_Position = Annotated[str, Meta(max_length=MAX_TEXT)]
_Token = Annotated[str, Meta(min_length=1)]


class Connect(Struct, frozen=True, tag_field="type", tag="connect"):
    """The first text of a WebSocket that was opened without a connection.

    Attributes:
        id: what the answer repeats.
        conn_id: the connection to continue; empty lets the server make one.
        since: the position from which it is read; empty if the client has none yet.
    """

    token: _Token
    id: _Id = None
    conn_id: Annotated[str, Meta(max_length=MAX_CONN_ID)] = ""
    since: _Position = ""


class _Subscribe(Struct, tag_field="type", tag="subscribe"):
    channels: _Channels
    id: _Id = None
    since: Annotated[dict[_Name, _Position], Meta(max_length=MAX_CHANNELS)] = {}

    def action(self) -> Action:
        return Subscribe(_unique(self.channels), self.id, self.since)


class _Unsubscribe(Struct, tag_field="type", tag="unsubscribe"):
    channels: _Channels
    id: _Id = None

    def action(self) -> Action:
        return Unsubscribe(_unique(self.channels), self.id)


class _Publish(Struct, tag_field="type", tag="publish"):
    channel: _Name
    message: Raw
    id: _Id = None
    uuid: Annotated[str, Meta(max_length=MAX_ID)] = ""

    def action(self) -> Action:
        payload = _encode(read_any(self.message))
        return Publish(self.channel, payload, self.id, normalize_uuid(self.uuid) if self.uuid else "")


class _Values(Struct):
    """The values of `_SetState`, checked."""

    user_state: dict[_Name, StateValue]


class _SetState(Struct, tag_field="type", tag="state"):
    # Any: `finite` reads no number of a value whose type is known.
    user_state: Annotated[dict[_Name, Any], Meta(max_length=MAX_STATE_KEYS)]
    id: _Id = None

    def action(self) -> Action:
        return SetState(msgspec.convert(self, _Values, from_attributes=True).user_state, self.id)


class _Info(Struct, tag_field="type", tag="info"):
    channels: _Channels
    id: _Id = None

    def action(self) -> Action:
        return Info(_unique(self.channels), self.id)


class _Refresh(Struct, tag_field="type", tag="refresh"):
    token: _Token
    id: _Id = None

    def action(self) -> Action:
        return Refresh(self.token, self.id)


class _Named(Struct):
    """By what an object is recognized, and an error names it."""

    type: Any = None
    id: Any = UNSET


@dataclass(frozen=True, slots=True)
class Fault:
    """A text, or an object in it, that is no command.

    Attributes:
        ref: its `id`, if it has one that can be repeated.
        code: as `ChannelstreamError.code`.
        message: a sentence for people.
    """

    ref: Ref
    code: str
    message: str


_Texts = Connect | _Subscribe | _Unsubscribe | _Publish | _SetState | _Info | _Refresh
_encode = msgspec.json.Encoder().encode
_command = lenient(msgspec.json.Decoder(_Texts, float_hook=finite).decode)
_named = lenient(msgspec.json.Decoder(_Named, float_hook=finite).decode)
_list = lenient(msgspec.json.Decoder(list[Raw]).decode)
_TYPES = frozenset(each.__struct_config__.tag for each in get_args(_Texts))
_NOT_JSON = Fault(None, "malformed", "The text is not JSON.")


def read_objects(text: bytes | bytearray) -> Iterable[Raw | bytes | bytearray] | Fault:
    """Return the objects of a text, which are read one by one later."""
    if not text.lstrip().startswith(b"["):
        return (text,)
    try:
        return _list(text)
    except (msgspec.MsgspecError, RecursionError):
        return _NOT_JSON


def read_command(data: Raw | bytes | bytearray) -> Action | Connect | Fault | None:
    """Return what an object asks for; None if it is ignored."""
    try:
        named = _named(data)
    except msgspec.ValidationError:
        return Fault(None, "invalid", "A command is an object.")
    except (msgspec.MsgspecError, RecursionError):
        return _NOT_JSON
    if not isinstance(named.type, str) or named.type not in _TYPES:
        return None if named.id is UNSET else Fault(_ref(named.id), "invalid", "There is no such command.")
    try:
        found = _command(data)
        return found if isinstance(found, Connect) else found.action()
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        return Fault(_ref(named.id), "invalid", f"The command is faulty: {error}.")


def read_commands(text: bytes | bytearray) -> Iterator[Action | Fault]:
    """Yield the commands and faults of a text of an open stream; each is read when it is taken."""
    objects = read_objects(text)
    if isinstance(objects, Fault):
        yield objects
        return
    for data in objects:
        found = read_command(data)
        if isinstance(found, Connect):
            found = Fault(_ref(found.id), "invalid", "The stream is connected already.")
        if found is not None:
            yield found


def _ref(given: Any) -> Ref:
    """Return an id as an answer repeats it; None for one that is no id."""
    try:
        ref: Ref = msgspec.convert(given, _Id)
    except msgspec.ValidationError:
        return None
    return ref


def _unique(channels: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(channels))
