"""A TCP line to the server that breaks every connection after a random number of bytes."""

import asyncio
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from types import TracebackType
from typing import Any

RESET = struct.pack("ii", 1, 0)
"""SO_LINGER value with which closing a socket sends RST."""
FROM_CLIENT_BYTES = 600
"""About two requests of a client: a cut falls into the first, between both, or into the second."""
FROM_SERVER_LOG2 = (4.0, 13.0)
"""Exponents of the least and the most bytes a server sends before a cut, drawn evenly: often inside the answer's head."""
RARELY_FROM_SERVER_LOG2 = (13.0, 17.5)
"""The same for one connection in eight. More than the longest frame (64 KiB) gets through, so that even a client that
is far behind gets on."""


@dataclass(frozen=True)
class Cut:
    """Where one connection breaks: the first direction to carry so many bytes ends both; None is no limit."""

    from_client: int | None
    from_server: int
    reset: bool

    @classmethod
    def draw(cls, random: Random) -> "Cut":
        from_client = random.randint(1, FROM_CLIENT_BYTES) if random.random() < 0.25 else None
        exponents = RARELY_FROM_SERVER_LOG2 if random.random() < 1 / 8 else FROM_SERVER_LOG2
        return cls(from_client, int(2 ** random.uniform(*exponents)), reset=random.random() < 0.5)


class CuttingLine:
    """Listens on a free port and carries bytes to and from the server, each connection to any of its nodes.

    Attributes:
        port: where clients connect.
        cuts: connections that were broken so far.
    """

    def __init__(self, server: Any, random: Random) -> None:
        self.port = 0
        self.cuts = 0
        self._server = server
        self._random = random
        self._carried: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._listener: asyncio.Server

    async def __aenter__(self) -> "CuttingLine":
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._listener.close()
        carried = dict(self._carried)
        for task, writer in carried.items():
            task.cancel()
            writer.transport.abort()  # A task that is cancelled before it begins closes nothing.
        await asyncio.gather(*carried, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._carry(reader, writer, Cut.draw(self._random)))
        self._carried[task] = writer
        task.add_done_callback(self._carried.pop)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, cut: Cut) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._server.port)
        pumps = [
            asyncio.create_task(_pump(reader, far_writer, cut.from_client)),
            asyncio.create_task(_pump(far_reader, writer, cut.from_server)),
        ]
        try:
            ended, _ = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            self.cuts += any(task.result() for task in ended)
        finally:
            for task in pumps:
                task.cancel()
            for end in (writer, far_writer):
                _close(end, cut.reset)


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, limit: int | None) -> bool:
    """Carry bytes in one direction; return whether the limit, and not one of the ends, has stopped it."""
    carried = 0
    with suppress(ConnectionError):
        while data := await source.read(65_536):
            part = data if limit is None else data[: limit - carried]
            carried += len(part)
            sink.write(part)
            if carried == limit:
                return True
            await sink.drain()
    return False


def _close(end: asyncio.StreamWriter, reset: bool) -> None:
    if reset:
        line = end.get_extra_info("socket")
        if line.fileno() != -1:  # Its own side may have reset it already.
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        end.transport.abort()
    else:
        end.close()
