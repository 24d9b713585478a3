"""The payload of a message that an event of Pusher is: the name and the data of the event, as native clients see them.

Pusher's data is a text, which clients get exactly as it was sent. Most of it is JSON, so that the payload has the value
that the text stands for: the text itself, byte for byte. The data remains a text in the payload where the way back would
not be unique or the text would not fit into a payload: if it is no JSON, a JSON string, or has blanks around it, line
ends, or more nesting than a body may have.
"""

import re
from typing import NamedTuple

import msgspec
from msgspec import Raw, Struct

from channelstream.core.numbers import read_any

MAX_NAME = 200
"""Longest name of an event, in characters."""
MAX_DATA_BYTES = 10_240
"""Longest data of an event, of a client or a server, in bytes of UTF-8: of a text, or of other JSON as it was sent."""
RESERVED = ("pusher:", "pusher_internal:")
"""Begin the names of the protocol's own events: a payload describes none of these."""
_EMBEDDED = re.compile(r"[^\s\"](?:[^\r\n]*\S)?")
"""What may be JSON on one line, other than a string."""
_MAX_BRACKETS = 200
"""More of them may nest too deep for a program that reads the payload."""

_encode = msgspec.json.Encoder().encode


class PusherEvent(NamedTuple):
    """An event as Pusher's clients and SDKs know it.

    Attributes:
        data: a text, which often is JSON; of an event of a client JSON, which is sent on as it came.
        is_client: a client has sent it.
    """

    name: str
    data: str
    is_client: bool = False


class _Payload(Struct, forbid_unknown_fields=True):
    event: str
    data: Raw
    client: bool = False


_decode = msgspec.json.Decoder(_Payload).decode


def payload_of(event: PusherEvent) -> bytes:
    """Return the payload of the message that an event is."""
    if event.is_client:
        return b'{"event":%b,"data":%b,"client":true}' % (_encode(event.name), event.data.encode())
    data = event.data.encode() if _is_embedded(event.data) else _encode(event.data)
    return b'{"event":%b,"data":%b}' % (_encode(event.name), data)


def _is_embedded(data: str) -> bool:
    """Whether the payload has the value of a text of JSON in place of the text."""
    if _EMBEDDED.fullmatch(data) is None or data.count("[") + data.count("{") > _MAX_BRACKETS:
        return False
    try:
        read_any(data)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def read_payload(payload: bytes) -> PusherEvent | None:
    """Return the event that a payload describes, with the text that was its data; None if it describes none.

    An application may publish such a payload itself: the event then has this name.
    """
    try:
        found = _decode(payload)
    except msgspec.DecodeError:
        return None
    if not 0 < len(found.event) <= MAX_NAME or found.event.startswith(RESERVED):
        return None
    text = bytes(found.data).decode()
    is_text = text.startswith('"') and not found.client
    return PusherEvent(found.event, read_any(text) if is_text else text, found.client)
