"""The form in which engines store events: one codec for SQLite and Redis.

An event is stored as a *body* and a *payload*.

- The body is a JSON object: the fields of the event under their names in `core/events.py`, without those that have their
  default. `kind` is the tag of its type in the union, so a body can be decoded without more. A `payload` in the body is
  always empty (`""`).
- The payload is the JSON text as it was published, beside the body: nothing that stores or moves an event reads it. None
  for events without one.

Neither has a line break outside of the payload, so a body and a payload can be one text with a line break in between.

An engine that replaces fields without reading JSON keeps a body in *fields*: `fields_of` gives each as the JSON text of
its value, and `join` makes a body of them again, in any order.

What is stored outlives this version: a tag, the name of a field, and its default, which is stored by its absence, stay as
they are. A new field has a default.
"""

from collections.abc import Mapping

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from channelstream.core.events import Event, Message, MessageEdited

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Event).decode
_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_TYPES: tuple[type[Event], ...] = Event.__args__
_DECODERS = {str(each.__struct_config__.tag): msgspec.json.Decoder(each).decode for each in _TYPES}


class UnreadableEvent(ValueError):
    """What is stored is no event that this version knows."""


def kind_of(event: Event) -> str:
    """Return the tag of the type of an event."""
    return str(event.__struct_config__.tag)


def payload_of(event: Event) -> bytes | None:
    """Return the payload of an event; None if it has none."""
    return event.payload if isinstance(event, Message | MessageEdited) else None


def encode(event: Event) -> tuple[bytes, bytes | None]:
    """Return the body and the payload of an event."""
    if isinstance(event, Message | MessageEdited) and event.payload is not None:
        return _encode(replace(event, payload=b"")), event.payload
    return _encode(event), None


def decode(body: bytes, payload: bytes | None = None, kind: str | None = None) -> Event:
    """Return the event of a body and a payload.

    Args:
        kind: the tag, for a body that may have none: SQLite files of older versions have it in a column only.

    Raises:
        UnreadableEvent: the kind is unknown, or the body is not that of an event of this kind.
    """
    try:
        event: Event = _decode(body) if kind is None else _DECODERS[kind](body)
    except (KeyError, TypeError, ValueError) as error:
        what = "an event" if kind is None else f"an event of kind {kind!r}"
        raise UnreadableEvent(f"{what} that this version of channelstream cannot read") from error
    if payload is None or not isinstance(event, Message | MessageEdited):
        return event
    return replace(event, payload=payload)


def fields_of(body: bytes) -> dict[str, Raw]:
    """Return the fields of a body, each with the JSON text of its value."""
    return _fields(body)


def join(fields: Mapping[str, Raw]) -> bytes:
    """Return the body that has these fields."""
    return _encode(fields)
