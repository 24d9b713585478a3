"""Sockets and requests of clients with tokens: the head of a request opens them, and the client may send texts."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol
from urllib.parse import urlencode

from tests.simulation.line import Items, Line

from channelstream.core.http_head import RequestHead, read_head
from channelstream.core.policy import Policy
from channelstream.http.request import Part, Request

_UPGRADE = (
    "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
    "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


def head_of(
    method: str, path: str, query: dict[str, str], token: str = "", upgrades: bool = False
) -> RequestHead:
    """Return the head of a request, with a token in its header or none."""
    fields = f"authorization: Bearer {token}\r\n" if token else ""
    fields += _UPGRADE if upgrades else ""
    return read_head(f"{method} {path}?{urlencode(query)} HTTP/1.1\r\nhost: x\r\n{fields}\r\n".encode())


def text_frame(text: bytes) -> bytes:
    """Return a client's frame; its mask changes nothing (RFC 6455, 5.3)."""
    size = len(text)
    length = bytes([128 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    return b"\x81" + length + bytes(4) + text


class TokenLine(Line):
    """A line on which the client sends, which the server may stop to read, and whose protocol changes."""

    def __init__(self, high: int, pauses_late: bool) -> None:
        super().__init__(high, pauses_late)
        self._sent = bytearray()
        self._reads = True

    def write(self, data: Any) -> None:
        """Show also what the server writes before it knows that the client has gone: it counts these events as sent."""
        if self._closing and not self._lost:
            self.on_write(bytes(data))
        super().write(data)

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def pause_reading(self) -> None:
        self._reads = False

    def resume_reading(self) -> None:
        self._reads = True
        asyncio.get_running_loop().call_soon(self._bring)

    def send(self, data: bytes) -> None:
        """Send bytes to the server, which reads them in one turn or in two."""
        self._sent += data
        asyncio.get_running_loop().call_soon(self._bring)

    def _bring(self) -> None:
        if self._sent and self._reads and not self._closing:
            data = bytes(self._sent)
            self._sent.clear()
            self.protocol.data_received(data)


class Lent:
    """A request whose socket may be taken over (`http.takeover.Detachable`)."""

    def __init__(self, line: TokenLine, refused: Callable[[], None]) -> None:
        self._line = line
        self._refused = refused

    @property
    def is_open(self) -> bool:
        return not self._line.is_closing()

    def release(self) -> tuple[asyncio.Transport, bytes]:
        return self._line, b""

    def serve(self) -> None:
        self._refused()

    fail = serve


class AfterHead:
    """Reads what follows the head of an answer."""

    def __init__(self, parser: Any) -> None:
        self._parser = parser
        self._head: bytes | None = b""

    @property
    def close_code(self) -> int | None:
        code: int | None = self._parser.close_code
        return code

    def feed(self, data: bytes) -> list[Items]:
        if self._head is not None:
            head, end, data = (self._head + data).partition(b"\r\n\r\n")
            if not end:
                self._head = head
                return []
            self._head = None
        lists: list[Items] = self._parser.feed(data)
        return lists


class Owner(Protocol):
    """What the socket of a request says to its handler."""

    @property
    def is_gone(self) -> bool: ...


class PollSocket:
    """The socket of a poll (`http.line.Line`)."""

    def __init__(self, owner: Owner) -> None:
        self.owner = owner

    def has_ended(self) -> bool:
        return self.owner.is_gone

    def ack_progress(self) -> int | None:
        return None


class Body:
    """Where the body of a request comes from (`http.request.Source`)."""

    def __init__(
        self, body: bytes, socket: PollSocket | None, until_gone: Callable[[], Awaitable[None]]
    ) -> None:
        self._body: bytes | None = body
        self._socket = socket
        self._until_gone = until_gone

    async def receive(self) -> Part | None:
        body, self._body = self._body, None
        if body is None:
            await self._until_gone()
            return None
        return body, False

    def line(self) -> Any:
        return self._socket


def request_of(head: RequestHead, body: Body) -> Request:
    return Request(head, body, Policy())
