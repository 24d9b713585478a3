"""The opening handshake of WebSocket, server side (RFC 6455 section 4.2).

The caller has checked that the request is a GET of HTTP/1.1 that offers `websocket` (`core.http_head.offered`);
the transport checks Origin.
"""

import hashlib
import re
from binascii import Error, a2b_base64, b2a_base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from channelstream.core.headers import Header
from channelstream.core.http_head import RequestHead
from channelstream.errors import BadHandshake, UnsupportedVersion

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_RESPONSE: Final = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: %b\r\n%b\r\n"
)
_TCHAR: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_NAME: Final = re.compile(rf"{_TCHAR}+")
_PARAMETER: Final = re.compile(rf'({_TCHAR}+)(?:[ \t]*=[ \t]*({_TCHAR}+|"(?:\\?{_TCHAR})+"))?')
EXTENSIONS_BYTES: Final = 1024
"""Longest Sec-WebSocket-Extensions: clients send 60 bytes, and 32 KB of offers take 17 ms to read (measured)."""


@dataclass(frozen=True, slots=True)
class Offer:
    """An extension that the client offers; a parameter without a value has None."""

    name: str
    parameters: tuple[tuple[str, str | None], ...]


class Handshake(NamedTuple):
    """A handshake that can be accepted.

    Attributes:
        key: the client's Sec-WebSocket-Key.
        offers: its extensions, the preferred one first.
    """

    key: bytes
    offers: tuple[Offer, ...]

    def response(self, deflate: str | None = None) -> bytes:
        """Return the complete head of the 101 answer; `deflate` is the agreed extension, None for none."""
        extensions = b"" if deflate is None else b"Sec-WebSocket-Extensions: %b\r\n" % deflate.encode("ascii")
        return _RESPONSE % (accept_key(self.key), extensions)


def accept(head: RequestHead) -> Handshake:
    """Return the handshake that a request asks for.

    Raises:
        BadHandshake: a field that RFC 6455 section 4.2.1 requires is missing or wrong.
        UnsupportedVersion: another Sec-WebSocket-Version than 13, or none.
    """
    fields = head.first if len(head.first) == len(head.headers) else _by_name(head.headers)
    if fields.get(b"sec-websocket-version") != b"13":
        raise UnsupportedVersion("This server speaks Sec-WebSocket-Version 13 only.")
    key = fields.get(b"sec-websocket-key", b"")
    if not _is_key(key):
        raise BadHandshake("Sec-WebSocket-Key must be one base64 value of 16 bytes.")
    extensions = fields.get(b"sec-websocket-extensions", b"")
    if len(extensions) > EXTENSIONS_BYTES:
        raise BadHandshake(f"Sec-WebSocket-Extensions has at most {EXTENSIONS_BYTES} bytes.")
    return Handshake(key, _read_offers(extensions.decode("latin-1")) if extensions else ())


def accept_key(key: bytes) -> bytes:
    """Return the Sec-WebSocket-Accept that proves the server has read `key` (RFC 6455 section 4.2.2)."""
    return b2a_base64(hashlib.sha1(key + _GUID, usedforsecurity=False).digest(), newline=False)


def _by_name(headers: Sequence[Header]) -> Mapping[bytes, bytes]:
    """Return the value of each name; repeated, it is a list (RFC 9110 section 5.3) and equals no single value."""
    values: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        values.setdefault(name, []).append(value)
    return {name: b", ".join(several) for name, several in values.items()}


def _is_key(key: bytes) -> bool:
    try:
        return len(a2b_base64(key, strict_mode=True)) == 16
    except Error:
        return False


def _read_offers(value: str) -> tuple[Offer, ...]:
    # Unquoted, a quoted value must be a token (RFC 6455 section 9.1), so commas and semicolons separate.
    return tuple(_read_offer(item) for item in value.split(",") if item.strip())


def _read_offer(item: str) -> Offer:
    """Return one offer; a malformed one fails the handshake (RFC 6455 section 9.1)."""
    name, *rest = (part.strip() for part in item.split(";"))
    # A semicolon at the end, which some clients send, is no fault.
    matches = [_PARAMETER.fullmatch(part) for part in rest if part]
    if not _NAME.fullmatch(name) or None in matches:
        raise BadHandshake("Sec-WebSocket-Extensions is malformed.")
    return Offer(name, tuple((match[1], _unquoted(match[2])) for match in matches if match))


def _unquoted(value: str | None) -> str | None:
    if value is None or not value.startswith('"'):
        return value
    return value[1:-1].replace("\\", "")
