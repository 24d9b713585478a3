"""The interface of a compared server, and the start and end of its process."""

import asyncio
import contextlib
import shutil
import socket
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from channelstream.bench.http import HttpConnection, open_http
from channelstream.bench.load import BenchFailed, Load
from channelstream.bench.measure import Target
from channelstream.bench.publishing import Addressed, OpenPublisher, Publisher, open_publisher
from channelstream.bench.servers import stop
from channelstream.bench.wire import Wire

HOST = "127.0.0.1"
SERVERS = Path(__file__).parent / "servers"
START_TIMEOUT_S = 20.0
_LOOK_AGAIN_S = 0.05


@dataclass(frozen=True, slots=True)
class Peer:
    """A server to compare.

    Attributes:
        name: its name on the command line and in the table.
        missing: returns what has to be installed, as a sentence; empty if it can be started.
        serve: starts it on free ports, and ends it with the context.
        share: part of the messages of a run that it is sent. A slow server would need minutes for all of them.
    """

    name: str
    missing: Callable[[], str]
    serve: Callable[[], AbstractAsyncContextManager[Target]]
    share: float = 1.0

    def part_of(self, load: Load) -> Load:
        """Return its part of a load: at least one message."""
        return replace(load, messages=max(1, round(load.messages * self.share)))


def need_program(program: str, sentence: str) -> str:
    """Return the sentence if the program is not installed, otherwise an empty text."""
    return "" if shutil.which(program) else sentence


def free_port() -> int:
    """Return a free port."""
    with socket.create_server((HOST, 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


@asynccontextmanager
async def serving(
    name: str,
    command: Sequence[str | Path],
    wire: Wire,
    publisher: OpenPublisher = open_publisher,
    environ: Mapping[str, str] | None = None,
) -> AsyncIterator[Target]:
    """Start a server process, and wait until it accepts connections.

    Raises:
        BenchFailed: the server does not start.
    """
    process = await asyncio.create_subprocess_exec(
        *command, stdin=DEVNULL, stdout=DEVNULL, env=environ, start_new_session=True
    )
    try:
        await _until_open(name, process, wire)
        yield Target(name, wire, process.pid, publisher)
    finally:
        await stop(process)


async def _until_open(name: str, process: Process, wire: Wire) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(START_TIMEOUT_S):
            while process.returncode is None:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection(wire.host, wire.port)
                    writer.close()
                    return
                await asyncio.sleep(_LOOK_AGAIN_S)
    raise BenchFailed(f"{name} did not start; see its output above")


class PostPublisher:
    """Posts each message, for servers with such an API.

    Args:
        path: where messages are posted to.
        template: body of a call, with `%b` for the message.
    """

    def __init__(self, wire: Wire, connection: HttpConnection, path: str, template: bytes) -> None:
        self._wire = wire
        self._connection = connection
        self._path = path
        self._template = template

    async def publish(self, messages: Sequence[Addressed]) -> None:
        for _, text in messages:
            await self._connection.call(self._wire.post(self._path, self._template % text, b""))

    def close(self) -> None:
        self._connection.close()


async def open_post(wire: Wire, path: str = "/publish", template: bytes = b"%b") -> Publisher:
    return PostPublisher(wire, await open_http(wire, None), path, template)
