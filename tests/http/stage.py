"""A connection in the test's process, on a real socket, with the client's end under the test's control."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import uvloop
from tests.waiting import PATIENCE_S

from channelstream.core.policy import Policy
from channelstream.errors import ChannelstreamError
from channelstream.http.asgi import App, AsgiHandler
from channelstream.http.connection import HttpConnection
from channelstream.http.request import Request
from channelstream.http.response import Response
from channelstream.http.router import ANY_METHOD, Handler, Route, Router
from channelstream.http.shared import HttpServer, HttpSettings

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
OK = [(b"content-length", b"2")]
POST = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
SOCKET_BYTES = 65_536
"""The buffers of the kernel for a connection, in each direction at each end."""


@dataclass
class Stage:
    """A listener, and a handler for all requests.

    Attributes:
        asked: the path of each request that reached the handler.
        refused: the code of each request that was reported as refused.
        policy: who may call.
        answer: an ASGI application; it answers 200 at once unless a test says otherwise.
        handler: answers instead of the application.
    """

    settings: HttpSettings = field(default_factory=HttpSettings)
    asked: list[str] = field(default_factory=list)
    clients: "list[Client]" = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    policy: Policy = field(default_factory=Policy)

    def __post_init__(self) -> None:
        self.answer: App = ok
        self.handler: Handler | None = None
        self._pages = AsgiHandler(self._app, self.policy)
        self.serve()

    def serve(self, *routes: Route) -> None:
        """Serve these routes beside the handler."""
        router = Router(self.policy, routes, Route("", {ANY_METHOD: self._handle}), self._note_refusal)
        self.http_server = HttpServer(self.settings, router)

    def _note_refusal(self, _method: str, _route: str, error: ChannelstreamError, _address: str) -> None:
        self.refused.append(error.code)

    def _handle(self, request: Request) -> Response | Awaitable[Response | None]:
        self.asked.append(request.path)
        return (self.handler or self._pages)(request)

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        await self.answer(scope, receive, send)

    async def dial(self) -> "Client":
        """Open a connection over TCP."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            far = socket.create_connection(listening.getsockname())
            near = listening.accept()[0]
        for end in (near, far):
            end.setblocking(False)
            # Otherwise the kernel lets them grow, and a whole answer may wait in them.
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BYTES)
        made = HttpConnection(self.http_server)
        transport, _ = await asyncio.get_running_loop().connect_accepted_socket(lambda: made, near)
        self.clients.append(Client(far, made, transport))
        return self.clients[-1]


@dataclass
class Client:
    """The client's end, and the server's for a look at it."""

    socket: socket.socket
    connection: HttpConnection
    transport: asyncio.Transport
    _buffer: bytes = b""

    @property
    def is_full(self) -> bool:
        """Whether the server's end has no room for more bytes."""
        return self.connection._out.is_full

    async def send(self, data: bytes) -> None:
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.get_running_loop().sock_sendall(self.socket, data)

    def end(self) -> None:
        """End the client's side of the connection."""
        self.socket.shutdown(socket.SHUT_WR)

    async def until(self, mark: bytes) -> bytes:
        """Read up to and with the mark."""
        while mark not in self._buffer:
            more = await self._more()
            assert more, f"the server has closed after {self._buffer!r}"
            self._buffer += more
        found, _, self._buffer = self._buffer.partition(mark)
        return found + mark

    async def rest(self) -> bytes:
        """Read until the server closes; a reset is an error."""
        held = bytearray(self._buffer)
        while data := await self._more():
            held += data
        return bytes(held)

    async def _more(self) -> bytes:
        async with asyncio.timeout(PATIENCE_S):
            return await asyncio.get_running_loop().sock_recv(self.socket, 65_536)


async def ok(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": OK})
    await send({"type": "http.response.body", "body": b"ok"})


class Gate:
    """An application that answers once it may."""

    def __init__(self) -> None:
        self.opens = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.opens.wait()
        await ok(scope, receive, send)


async def read_all(scope: Any, receive: Any, send: Any) -> None:
    """Answer once the body is complete; end without an answer if the client leaves."""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        if not message["more_body"]:
            await ok(scope, receive, send)
            return


async def turns(count: int = 20) -> None:
    """Let the loop turn."""
    for _ in range(count):
        await asyncio.sleep(0)


def play(scene: Callable[[Stage], Awaitable[None]], settings: HttpSettings | None = None) -> None:
    """Play a scene on its own stage, and clear it."""

    async def run() -> None:
        stage = Stage(settings or HttpSettings())
        try:
            await scene(stage)
        finally:
            for client in stage.clients:
                client.socket.close()
                client.transport.abort()
            await turns()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())
