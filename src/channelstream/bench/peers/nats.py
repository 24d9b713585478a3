"""NATS: subscribers over its WebSocket port, publishers over TCP. The PONG to a PING after each message confirms it."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from channelstream.bench.load import BenchFailed
from channelstream.bench.measure import Target
from channelstream.bench.peers.peer import HOST, Peer, free_port, need_program, serving
from channelstream.bench.publishing import Addressed, Publisher
from channelstream.bench.wire import Wire

_CONNECT = 'CONNECT {"verbose":false,"pedantic":false}\r\n'
_CONFIG = """
listen: "%(host)s:%(tcp)d"
ping_interval: "10m"
max_connections: 65536
websocket { listen: "%(host)s:%(ws)d", no_tls: true, compression: false }
"""


class NatsPublisher:
    """A connection that publishes, and waits until the server has read each message."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def publish(self, messages: Sequence[Addressed]) -> None:
        for _, text in messages:
            self._writer.write(b"PUB bench %d\r\n%b\r\nPING\r\n" % (len(text), text))
            await self.until_pong()

    async def until_pong(self) -> None:
        """Read from the server until it answers a PING, and answer its own PINGs.

        Raises:
            BenchFailed: the server refuses a message or closes the connection.
        """
        while (line := await self._reader.readline()) != b"PONG\r\n":
            if line == b"PING\r\n":
                self._writer.write(b"PONG\r\n")
            elif not line or line.startswith(b"-ERR"):
                raise BenchFailed(f"NATS refuses a message: {line.decode().strip() or 'closed'}")

    def close(self) -> None:
        self._writer.close()


async def _open(port: int, wire: Wire) -> Publisher:
    reader, writer = await asyncio.open_connection(wire.host, port)
    writer.write(f"{_CONNECT}PING\r\n".encode())
    publisher = NatsPublisher(reader, writer)
    await publisher.until_pong()
    return publisher


@asynccontextmanager
async def _serve() -> AsyncIterator[Target]:
    tcp, ws = free_port(), free_port()
    wire = Wire(
        host=HOST,
        port=ws,
        opening=(f"{_CONNECT}SUB bench 1\r\nPING\r\n",),
        opened_by="PONG",
    )
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "nats.conf"
        config.write_text(_CONFIG % {"host": HOST, "tcp": tcp, "ws": ws})
        command = ("nats-server", "-c", config, "-l", Path(folder) / "nats.log")
        async with serving("NATS", command, wire, partial(_open, tcp)) as target:
            yield target


PEER = Peer(
    "NATS",
    lambda: need_program("nats-server", "install it with `apt-get install nats-server`"),
    _serve,
)
