"""An application that calls the server for very many clients."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from channelstream.bench.http import HttpConnection, open_http
from channelstream.bench.wire import Wire

CONCURRENCY = 32
"""Most connections of an application for its calls."""


class Application:
    """Calls the server for its clients, over a few connections that are opened again after a failure."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self._idle: list[HttpConnection] = []
        self._slots = asyncio.Semaphore(CONCURRENCY)

    async def call(self, path: str, body: object) -> Any:
        """Send a signed POST and return the answer's JSON.

        Raises:
            BenchFailed: the server cannot be reached, or refuses the call.
        """
        async with self._connection() as connection:
            text = msgspec.json.encode(body)
            request = self.wire.post(path, text, self.wire.signed("POST", path, text))
            return msgspec.json.decode(await connection.call(request))

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[HttpConnection]:
        async with self._slots:
            while self._idle and not self._idle[-1].is_open:
                self._idle.pop()
            connection = self._idle.pop() if self._idle else await open_http(self.wire, None)
            try:
                yield connection
            except BaseException:
                connection.close()
                raise
            self._idle.append(connection)

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()
