"""The reference server: a plain asyncio server for the same work, `python -m channelstream.bench.reference`.

It encodes each message as one frame, and writes the frame to each client with one call: what a careful programmer
writes in an afternoon. It has no users, channels, signatures, history or limits. Because it runs in the same
minutes on the same machine, ratios to it are comparable between machines.
"""

import asyncio
import base64
import hashlib
from typing import cast

import msgspec
import uvloop

from channelstream.bench.processes import use_all_descriptors

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""RFC 6455 section 1.3."""
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4\r\n\r\ntrue"
_EVENT_STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"


class Hub:
    """The subscribers, by transport."""

    def __init__(self) -> None:
        self.sockets: dict[asyncio.Transport, None] = {}
        self.streams: dict[asyncio.Transport, None] = {}

    def publish(self, body: bytes) -> None:
        for item in msgspec.json.decode(body):
            data = msgspec.json.encode([{"type": "message", **item}])
            for listeners, message in ((self.sockets, _frame(data)), (self.streams, b"data: %b\n\n" % data)):
                for transport in listeners:
                    transport.write(message)

    def forget(self, transport: asyncio.Transport) -> None:
        self.sockets.pop(transport, None)
        self.streams.pop(transport, None)


def _frame(data: bytes) -> bytes:
    if len(data) < 126:
        return bytes((0x81, len(data))) + data
    if len(data) < 1 << 16:
        return b"\x81\x7e" + len(data).to_bytes(2) + data
    return b"\x81\x7f" + len(data).to_bytes(8) + data


class Connection(asyncio.Protocol):
    """A subscriber or a publisher; its first request decides."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._rest = b""
        self._is_listening = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._is_listening:
            return
        self._rest += data
        head, end, body = self._rest.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
        if end and len(body) >= length:
            self._rest = body[length:]
            self._answer(head, body[:length])

    def _answer(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"GET /ws"):
            self._listen(self._hub.sockets, _handshake(head))
        elif head.startswith(b"GET /sse"):
            self._listen(self._hub.streams, _EVENT_STREAM)
        else:
            if head.startswith(b"POST /message"):
                self._hub.publish(body)
            self._transport.write(_ANSWER)

    def _listen(self, listeners: dict[asyncio.Transport, None], head: bytes) -> None:
        self._is_listening = True
        self._transport.write(head)
        listeners[self._transport] = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._hub.forget(self._transport)


def _handshake(head: bytes) -> bytes:
    fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
    digest = hashlib.sha1(fields[b"Sec-WebSocket-Key"] + _GUID, usedforsecurity=False).digest()
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %b\r\n\r\n"
        % base64.b64encode(digest)
    )


async def serve() -> None:
    """Serve on a free port of loopback until the process ends."""
    hub = Hub()
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(hub), "127.0.0.1", 0, backlog=4096
    )
    print(f"listening on 127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


def main() -> None:
    use_all_descriptors()
    uvloop.run(serve())


if __name__ == "__main__":
    main()
