"""The PyPI package websockets on uvloop: a server that broadcasts. Publishers use WebSocket: it accepts no HTTP bodies."""

import sys
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

from websockets.asyncio.client import ClientConnection, connect

from channelstream.bench.measure import Target
from channelstream.bench.peers.peer import HOST, SERVERS, Peer, free_port, serving
from channelstream.bench.publishing import Addressed, Publisher
from channelstream.bench.wire import Wire


class WebSocketPublisher:
    """Sends a message and waits for the server's receipt."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    async def publish(self, messages: Sequence[Addressed]) -> None:
        for _, text in messages:
            await self._connection.send(text, text=True)
            await self._connection.recv()

    def close(self) -> None:
        self._connection.transport.abort()


async def _open(wire: Wire) -> Publisher:
    uri = f"ws://{wire.host}:{wire.port}/publish"
    return WebSocketPublisher(await connect(uri, compression=None, ping_interval=None))


def _serve() -> AbstractAsyncContextManager[Target]:
    port = free_port()
    command = (sys.executable, SERVERS / "broadcast.py", str(port))
    return serving("websockets", command, Wire(host=HOST, port=port), _open)


PEER = Peer("websockets", lambda: "", _serve)
