"""Calls a node as an application does, and opens streams as browsers do."""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from channelstream.bench.clients import Audience, Client
from channelstream.bench.engines.timed import Lap
from channelstream.bench.http import HttpConnection, open_http
from channelstream.bench.wire import Wire

_QUIET = {"include_history": False, "include_users": False}
"""Options for a short answer, so that the cost of the answer is not measured."""


class Api:
    """Makes signed calls over one connection, one after the other. `lap` times all of them."""

    def __init__(self, wire: Wire, connection: HttpConnection) -> None:
        self.wire = wire
        self.lap = Lap()
        self._connection = connection
        self._audience = Audience(wire, "ws", deflate=False)

    async def post(self, path: str, body: Any) -> Any:
        """Make a call and return the answer.

        Raises:
            BenchFailed: the call is refused.
        """
        request = self.wire.post(path, msgspec.json.encode(body), self.wire.signature(path))
        return msgspec.json.decode(await self.lap.of(self._connection.call(request)))

    async def connect(self, user: str, channels: Sequence[str], **more: Any) -> str:
        """Register a connection and return its id."""
        body = {"username": user, "channels": list(channels), "info": _QUIET, **more}
        conn_id: str = (await self.post("/connect", body))["conn_id"]
        return conn_id

    async def subscribe(self, conn_id: str, channel: str) -> None:
        await self.post("/subscribe", {"conn_id": conn_id, "channels": [channel], "info": _QUIET})

    async def unsubscribe(self, conn_id: str, channel: str) -> None:
        await self.post("/unsubscribe", {"conn_id": conn_id, "channels": [channel], "info": _QUIET})

    async def disconnect(self, conn_id: str) -> None:
        await self.post("/disconnect", {"conn_id": conn_id})

    async def publish(self, channel: str, count: int = 1) -> None:
        """Make one call with `count` messages of 100 characters."""
        message = {"channel": channel, "user": "bench", "message": {"text": "x" * 100}}
        await self.post("/message", [message] * count)

    async def stream(self, conn_id: str) -> Client:
        """Open a WebSocket, and wait until it is open."""
        client = Client(self._audience, conn_id)
        attached = client.attached
        assert attached is not None
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: client, self.wire.host, self.wire.port)
        await self.lap.of(attached)
        return client

    def new_lap(self) -> Lap:
        """Start a new lap and return it."""
        self.lap = Lap()
        return self.lap

    def close(self) -> None:
        self._connection.close()


async def open_api(wire: Wire) -> Api:
    return Api(wire, await open_http(wire, None))
