"""Small clients that speak to the server over bare sockets, byte by byte, where libraries would not."""

import base64
import json
import os
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, TypeVar
from uuid import uuid4

import pytest
from tests.conftest import RunningServer, launch
from tests.token_client import SECRET
from tests.waiting import PATIENCE_S

HEARTBEAT = (0x81, b"[]")
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER value with which closing a socket sends RST."""


class RawSocket:
    """A connected socket with a buffer to read lines, blocks and exact sizes from."""

    def __init__(self, port: int, receive_bytes: int | None = None, host: str = "127.0.0.1") -> None:
        self.socket = socket.socket()
        if receive_bytes is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.settimeout(PATIENCE_S)
        self.socket.connect((host, port))
        self._buffer = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def until(self, mark: bytes) -> bytes:
        """Read up to and with the mark."""
        while mark not in self._buffer:
            self._more()
        found, _, self._buffer = self._buffer.partition(mark)
        return found + mark

    def exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._more()
        found, self._buffer = self._buffer[:size], self._buffer[size:]
        return found

    def rest(self) -> bytes:
        """Read until the server closes, or resets, the socket."""
        try:
            while True:
                self._more()
        except (EOFError, ConnectionResetError):
            return self._buffer

    def reset(self) -> None:
        """Drop the socket as a crash of the client does: the server receives RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.socket.close()

    def close(self) -> None:
        self.socket.close()

    def _more(self) -> None:
        data = self.socket.recv(65_536)
        if not data:
            raise EOFError(self._buffer)
        self._buffer += data


class RawWebSocket(RawSocket):
    """A WebSocket client that can break every rule."""

    def __init__(self, port: int, query: str, early: bytes = b"", **more: Any) -> None:
        super().__init__(port, **more)
        key = base64.b64encode(os.urandom(16)).decode()
        head = (
            f"GET /ws?{query} HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        self.send(head.encode() + early)
        self.head = self.until(b"\r\n\r\n")

    def frame(self) -> tuple[int, bytes]:
        """Read one frame and return its first byte and its payload."""
        first, size = self.exactly(2)
        if size == 126:
            (size,) = struct.unpack("!H", self.exactly(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", self.exactly(8))
        return first, self.exactly(size)

    def answer(self) -> tuple[int, bytes]:
        """Read the next frame, and skip heartbeats, which come at any time."""
        while (frame := self.frame()) == HEARTBEAT:
            pass
        return frame

    def items(self) -> list[Any]:
        """Read text frames until one has items; heartbeats and pings are skipped."""
        while True:
            first, payload = self.answer()
            if first == 0x88:
                raise EOFError(payload)
            if first == 0x81:
                items: list[Any] = json.loads(payload)
                return items

    def several(self, count: int) -> list[Any]:
        """Read until so many items have come, in one frame or in several."""
        items: list[Any] = []
        while len(items) < count:
            items += self.items()
        return items

    def close_code(self) -> int:
        """Read until the close frame and return its code."""
        while True:
            first, payload = self.frame()
            if first == 0x88:
                return int.from_bytes(payload[:2], "big")


class RawSSE(RawSocket):
    """An event stream client."""

    def __init__(self, port: int, query: str, headers: str = "", **more: Any) -> None:
        super().__init__(port, **more)
        self.send(f"GET /sse?{query} HTTP/1.1\r\nHost: test\r\n{headers}\r\n".encode())
        self.head = self.until(b"\r\n\r\n")

    def block(self) -> tuple[str | None, list[Any]]:
        """Read one block: its id, None without one, and its list."""
        lines = self.until(b"\n\n").decode().splitlines()
        fields = dict(line.split(": ", 1) for line in lines if line)
        return fields.get("id"), json.loads(fields["data"])

    def full_block(self) -> tuple[str | None, list[Any]]:
        """Read the next block, and skip heartbeats, which come at any time."""
        while not (block := self.block())[1]:
            pass
        return block

    def items(self) -> list[Any]:
        """Read blocks until one has items."""
        return self.full_block()[1]


Client = TypeVar("Client", bound=RawSocket)


class Clients:
    """Opens clients that are closed at the end of the test."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def raw(self, port: int, **more: Any) -> RawSocket:
        return self._closing(RawSocket(port, **more))

    def ws(self, port: int, query: str, **more: Any) -> RawWebSocket:
        return self._closing(RawWebSocket(port, query, **more))

    def sse(self, port: int, query: str, **more: Any) -> RawSSE:
        return self._closing(RawSSE(port, query, **more))

    def _closing(self, client: Client) -> Client:
        self._stack.callback(client.close)
        return client


@pytest.fixture
def clients() -> Iterator[Clients]:
    """Raw clients of one test."""
    with ExitStack() as stack:
        yield Clients(stack)


@pytest.fixture
def masked() -> Callable[..., bytes]:
    """Builds a client's frame."""

    def build(payload: bytes, first: int = 0x81, mask: bool = True) -> bytes:
        size, bit = len(payload), 0x80 if mask else 0
        if size < 126:
            head = bytes((first, bit | size))
        elif size < 65_536:
            head = bytes((first, bit | 126)) + struct.pack("!H", size)
        else:
            head = bytes((first, bit | 127)) + struct.pack("!Q", size)
        # With a key of zeros, masking changes nothing.
        return head + (bytes(4) if mask else b"") + payload

    return build


@pytest.fixture
def own_server(start_server: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """Start servers with flags of one's own; each must end well, with no traceback in its log."""
    started: list[Any] = []

    def start(*flags: str) -> Any:
        started.append(start_server(*flags))
        return started[-1]

    yield start
    for running in started:
        if running.process.returncode is None:
            code, log = running.stop()
            assert code == 0, log
            assert "Traceback" not in log, log


@pytest.fixture(autouse=True)
def clean_log(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test the log of the shared server, or of each of three, shows no traceback."""
    server = request.getfixturevalue("server") if "server" in request.fixturenames else None
    yield
    if server is not None:
        log = server.log()
        assert "Traceback" not in log, log


@pytest.fixture
def actions() -> Callable[[Any, Any, str], list[str]]:
    """Return the presence a member received on its own stream, up to a marker message published now."""

    def received(member: Any, server: Any, channel: str) -> list[str]:
        server.post("/message", {"user": "test", "channel": channel, "message": {"marker": True}})
        found: list[str] = []
        while True:
            for item in member.items():
                if item["type"] == "presence":
                    found.append(f"{item['user']} {item['message']['action']}")
                elif (item.get("message") or {}).get("marker"):
                    return found

    return received


@pytest.fixture(scope="module")
def pushing() -> Iterator[RunningServer]:
    """A server that accepts tokens."""
    server = launch(
        "-s",
        SECRET,
        CHANNELSTREAM_TOKEN_MAX_AGE_S="3600",
        CHANNELSTREAM_CLIENT_STATE="true",
        CHANNELSTREAM_MAX_CLIENT_ERRORS="2",
    )
    server.secret = SECRET
    yield server
    server.stop()


@pytest.fixture
def channel() -> str:
    """A channel of its own for each test on the shared server."""
    return uuid4().hex


@pytest.fixture
def room() -> str:
    """A channel of its own for each test on the shared server."""
    return f"room.{uuid4().hex}"
