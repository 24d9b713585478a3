"""What the texts of Pusher's clients are: JSON objects with an event, mostly a channel, and data.

Data is an object, or JSON of one in a text: clients of different languages send either. Nothing here raises.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec
from msgspec import Raw

from channelstream.core.nesting import nests_deeper
from channelstream.core.numbers import read_any
from channelstream.wire.cut_texts import lenient

MAX_ID: Final = 128
"""Longest id of a user, in characters."""
MAX_INFO_BYTES: Final = 2048
"""Longest `user_info` of a member, as JSON."""

MAX_DEPTH: Final = 200
"""Deepest nesting of what other programs are sent."""

Fields = Mapping[str, Raw]
"""The fields of an object that a client has sent, with JSON that is not read yet."""

_fields = lenient(msgspec.json.Decoder(dict[str, Raw]).decode)
_encode = msgspec.json.Encoder().encode


class Asked(NamedTuple):
    """A text of a client.

    Attributes:
        channel: None if it names none.
        data: None if it has none.
    """

    event: str
    channel: str | None
    data: Raw | None


def read_text(text: bytes | bytearray) -> Asked | str:
    """Return what a client has sent; for a text that is none, a sentence about its fault."""
    fields = _object(bytes(text))
    if fields is None:
        return "The text is not a JSON object."
    event = text_in(fields, "event")
    if event is None:
        return "The text has no event, or one that is not text."
    return Asked(event, text_in(fields, "channel"), fields.get("data"))


def _object(data: bytes | bytearray | str | Raw) -> Fields | None:
    try:
        return _fields(data)
    except (msgspec.MsgspecError, RecursionError):
        return None


def fields_in(data: Raw | None) -> Fields | None:
    """Return the fields of data; None if it is neither an object nor a text with the JSON of one."""
    if data is None:
        return None
    text = _text(data)
    return _object(data if text is None else text)


def text_in(fields: Fields, name: str) -> str | None:
    """Return a field that is a text; None if it is absent, or something else."""
    return _text(fields[name]) if name in fields else None


def _text(data: Raw) -> str | None:
    value = _read(data)
    return value if isinstance(value, str) else None


def _read(data: Raw) -> object:
    """Return the value of JSON; None also if it nests too deep."""
    try:
        value: object = read_any(data)
    except (msgspec.MsgspecError, RecursionError):
        return None
    return value


def is_absent(fields: Fields, name: str) -> bool:
    """Whether a field is not there, or counts as not sent: null, and an empty text."""
    return name not in fields or bytes(fields[name]) in (b"null", b'""')


class Identity(NamedTuple):
    """Who a client is, as its application says.

    Attributes:
        info: JSON of anything, which others may see.
    """

    name: str
    info: bytes


def member_in(channel_data: str) -> Identity | str:
    """Return the member that a text describes; if it describes none, a sentence about its fault."""
    fields = _object(channel_data)
    if fields is None:
        return "channel_data is not the JSON of an object."
    name = _id(fields, "user_id")
    if name is None:
        return f"channel_data has no user_id, which is a text or a number of at most {MAX_ID} characters."
    return Identity(name, _info(fields))


def _id(fields: Fields, name: str) -> str | None:
    """Return the id in a field: a text, or a number in the digits in which it was sent."""
    if name not in fields:
        return None
    value = _read(fields[name])
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = bytes(fields[name]).decode()
    return value if isinstance(value, str) and 0 < len(value) <= MAX_ID else None


def _info(fields: Fields) -> bytes:
    return (compact(fields["user_info"]) if "user_info" in fields else None) or b"null"


def user_in(user_data: str) -> Identity | None:
    """Return the user that a text describes; None if it describes none."""
    fields = _object(user_data)
    name = None if fields is None else text_in(fields, "id")
    if fields is None or name is None or not 0 < len(name) <= MAX_ID:
        return None
    return Identity(name, _info(fields))


def compact(data: Raw) -> bytes | None:
    """Return JSON as it was sent, on one line; None if it nests too deep, or has a number out of range."""
    sent = bytes(data)
    if nests_deeper(sent, MAX_DEPTH):
        return None
    try:
        value = read_any(sent)
    except msgspec.MsgspecError:
        return None
    return _encode(value) if b"\n" in sent or b"\r" in sent else sent


def data_text(data: bytes) -> str:
    """Return the data of an event as a text: a JSON string as what it stands for, other JSON as it is.

    Args:
        data: valid JSON.
    """
    return str(msgspec.json.decode(data)) if data[:1] == b'"' else data.decode()
