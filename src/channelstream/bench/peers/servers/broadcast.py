"""`broadcast.py PORT`: a message to /publish is sent to every connection of /ws."""

import contextlib
import sys

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed


class Room:
    """The subscribed connections."""

    def __init__(self) -> None:
        self._listeners: set[ServerConnection] = set()

    async def handle(self, connection: ServerConnection) -> None:
        request = connection.request
        if request is not None and request.path == "/publish":
            with contextlib.suppress(ConnectionClosed):
                await self._take(connection)
            return
        self._listeners.add(connection)
        try:
            await connection.wait_closed()
        finally:
            self._listeners.discard(connection)

    async def _take(self, connection: ServerConnection) -> None:
        async for message in connection:
            broadcast(self._listeners, message)
            await connection.send("ok")


async def main() -> None:
    port = int(sys.argv[1])
    async with serve(
        Room().handle, "127.0.0.1", port, compression=None, ping_interval=None, backlog=4096
    ) as server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
