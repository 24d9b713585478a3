"""A stream in the test's process, on a real transport, with the client's end of its socket under the test's control."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import uvloop
from tests.waiting import PATIENCE_S

from channelstream.config import Settings
from channelstream.core.connection import Connection
from channelstream.core.user import UserUpdate
from channelstream.http.connection import HttpConnection
from channelstream.http.router import Router
from channelstream.http.shared import HttpServer, HttpSettings
from channelstream.server import build
from channelstream.transports.routes import stream_routes
from channelstream.transports.streams import Streams
from channelstream.wire.channelstream import V07

CLIENT_BUFFER_BYTES = 65_536
"""Bytes that the client's kernel takes before the client has read them; half of it is at the kernel's own disposal."""

UPGRADE = (
    b"GET /ws?conn_id=%b HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
"""The request for a WebSocket of a connection."""


class StepClock:
    """A clock that moves by so many seconds at each read."""

    def __init__(self, step_s: float) -> None:
        self._step_s = step_s
        self._now_s = 0.0

    def wall(self) -> float:
        return self._now_s

    def steady(self) -> float:
        self._now_s += self._step_s
        return self._now_s


@dataclass(frozen=True)
class Stage:
    """The objects of a scenario.

    Attributes:
        transport: the server's end of the socket.
        client: the other end, which does not block.
    """

    streams: Streams
    connection: Connection
    transport: asyncio.Transport
    client: socket.socket

    def http_server(self) -> HttpServer:
        """Return a front with the paths of the streams."""
        routes = stream_routes(self.streams, self.streams.services.default)
        return HttpServer(HttpSettings(), Router(self.streams.policy, routes))

    def speak_http(self) -> None:
        """Read requests from the transport."""
        http = HttpConnection(self.http_server())
        self.transport.set_protocol(http)
        http.connection_made(self.transport)

    async def opened(self, stream: Any) -> Any:
        """Put a stream on the transport, and wait until it is live."""
        self.transport.set_protocol(stream)
        stream.open("")
        await self.receive(20)
        return stream

    async def receive(self, count: int) -> int:
        """Read so many bytes and return how many came last."""
        left = count
        while left > 0:
            async with asyncio.timeout(PATIENCE_S):
                data = await asyncio.get_running_loop().sock_recv(self.client, min(left, 65_536))
            if not data:
                raise EOFError
            left -= len(data)
        return count

    async def until(self, holds: Callable[[], bool]) -> None:
        """Run the loop until a condition holds."""
        async with asyncio.timeout(PATIENCE_S):
            while not holds():
                await asyncio.sleep(0)


def _pair(kind: str) -> tuple[socket.socket, socket.socket]:
    if kind == "unix":
        return socket.socketpair()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        far = socket.socket()
        far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, CLIENT_BUFFER_BYTES)
        far.connect(listener.getsockname())
        return listener.accept()[0], far


def play(
    scenario: Callable[[Stage], Awaitable[None]], step_s: float | None = None, kind: str = "tcp", **more: Any
) -> None:
    """Play a scenario.

    Args:
        step_s: by how much the node's clock moves at each read; None means the system's clock.
        kind: of the socket, `tcp` or `unix`.
        more: settings of the server.
    """

    async def run(near: socket.socket, far: socket.socket) -> None:
        parts = build(Settings(**({"secret": "x", "admin_secret": "y"} | more)))
        await parts.node.start()
        await parts.node.connect("c", "u", V07, {"a": {}}, UserUpdate(values={}, fresh={}))
        if step_s is not None:
            parts.node.clock = StepClock(step_s)
        transport, _ = await asyncio.get_running_loop().connect_accepted_socket(asyncio.Protocol, near)
        try:
            await scenario(Stage(parts.streams, parts.node.hub.connections["c"], transport, far))
        finally:
            transport.abort()
            await asyncio.sleep(0)

    near, far = _pair(kind)
    with near, far:
        far.setblocking(False)
        uvloop.run(run(near, far))
