"""The opening handshake of WebSocket, server side (RFC 6455 section 4.2).

The caller has checked that the request is a GET with HTTP/1.1; the transport checks Origin.
"""

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from typing import Final

from channelstream.errors import ChannelstreamError, Headers

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_TCHAR: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_NAME: Final = re.compile(rf"{_TCHAR}+")
_PARAMETER: Final = re.compile(rf'({_TCHAR}+)(?:[ \t]*=[ \t]*({_TCHAR}+|"(?:\\?{_TCHAR})+"))?')


class BadHandshake(ChannelstreamError):
    """The request is not a valid WebSocket handshake (RFC 6455)."""

    code = "bad_handshake"
    http_status = 400


class UnsupportedVersion(BadHandshake):
    """The client uses another version; the answer names ours (RFC 6455 section 4.4; RFC 9110 section 15.5.22)."""

    code = "unsupported_websocket_version"
    http_status = 426
    headers = ((b"connection", b"upgrade"), (b"upgrade", b"websocket"), (b"sec-websocket-version", b"13"))


@dataclass(frozen=True, slots=True)
class Offer:
    """An extension that the client offers; a parameter without a value has None."""

    name: str
    parameters: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, slots=True)
class Handshake:
    """A handshake that can be accepted.

    Args:
        key: the client's Sec-WebSocket-Key.
        offers: its extensions, the preferred one first.
    """

    key: bytes
    offers: tuple[Offer, ...]

    def response(self, deflate: str | None = None) -> bytes:
        """Return the complete head of the 101 answer; `deflate` is the agreed extension, None for none."""
        lines = [
            b"HTTP/1.1 101 Switching Protocols",
            b"Upgrade: websocket",
            b"Connection: Upgrade",
            b"Sec-WebSocket-Accept: " + accept_key(self.key),
        ]
        if deflate is not None:
            lines.append(b"Sec-WebSocket-Extensions: " + deflate.encode("ascii"))
        return b"\r\n".join(lines) + b"\r\n\r\n"


def accept(headers: Headers) -> Handshake:
    """Return the handshake these request headers ask for.

    Raises:
        BadHandshake: a field that RFC 6455 section 4.2.1 requires is missing or wrong.
        UnsupportedVersion: another Sec-WebSocket-Version than 13, or none.
    """
    _check_upgrade(headers)
    key = _joined(headers, b"sec-websocket-key")
    if not _is_key(key):
        raise BadHandshake("Sec-WebSocket-Key must be one base64 value of 16 bytes.")
    return Handshake(key, _read_offers(_joined(headers, b"sec-websocket-extensions").decode("latin-1")))


def accept_key(key: bytes) -> bytes:
    """Return the Sec-WebSocket-Accept that proves the server has read `key` (RFC 6455 section 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())


def _joined(headers: Headers, name: bytes) -> bytes:
    """Return the field; repeated, it is a list (RFC 9110 section 5.3) and equals no single value."""
    return b", ".join(value.strip() for field, value in headers if field == name)


def _check_upgrade(headers: Headers) -> None:
    if not any(field == b"host" for field, _ in headers):
        raise BadHandshake("The Host header is missing.")
    for name, token in ((b"upgrade", b"websocket"), (b"connection", b"upgrade")):
        if token not in [item.strip() for item in _joined(headers, name).lower().split(b",")]:
            raise BadHandshake(f"The {name.decode().title()} header must name {token.decode()!r}.")
    if _joined(headers, b"sec-websocket-version") != b"13":
        raise UnsupportedVersion("This server speaks Sec-WebSocket-Version 13 only.")


def _is_key(key: bytes) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except binascii.Error:
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
