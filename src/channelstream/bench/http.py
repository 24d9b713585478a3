"""A keep-alive HTTP connection for sequential requests."""

import asyncio
import ssl
from typing import cast

from channelstream.bench.inbound import AnswerReader
from channelstream.bench.load import BenchFailed
from channelstream.bench.wire import Wire

_SHOWN_CHARS = 200
"""Most characters of a refusal that an error shows."""


class ConnectionClosed(BenchFailed):
    """The server closed a connection without an answer."""


class HttpConnection(asyncio.Protocol):
    """Sends prepared requests and waits for their answers. httpx would use several times the CPU of the server."""

    def __init__(self) -> None:
        self._reader = AnswerReader()
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            pieces = self._reader.feed(data)
        except BenchFailed as error:
            self._fail(error)
            return
        if pieces and self._answer is not None and not self._answer.done():
            self._answer.set_result(pieces[-1].payload)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._fail(ConnectionClosed(f"the server closed a connection during a call: {exc or 'no reason'}"))

    @property
    def is_open(self) -> bool:
        return self._transport is not None

    def _fail(self, error: BenchFailed) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)

    async def call(self, request: bytes) -> bytes:
        """Send a request and return the body of its answer.

        Raises:
            ConnectionClosed: there is none.
            BenchFailed: the answer is an error.
        """
        if self._transport is None:
            raise ConnectionClosed("the server closed a connection")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        body = await self._answer
        if self._reader.status >= 300:
            path = request.split(None, 2)[1].partition(b"?")[0].decode()
            text = " ".join(body.decode(errors="replace").split())[:_SHOWN_CHARS]
            raise BenchFailed(f"{path} answered {self._reader.status}: {text}")
        return body

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


async def open_http(wire: Wire, context: ssl.SSLContext | None) -> HttpConnection:
    """Connect to a server.

    Raises:
        BenchFailed: the server cannot be reached.
    """
    loop = asyncio.get_running_loop()
    try:
        _, connection = await loop.create_connection(HttpConnection, wire.host, wire.port, ssl=context)
    except OSError as error:
        raise BenchFailed(f"{wire.url} cannot be reached: {error}") from error
    return connection
