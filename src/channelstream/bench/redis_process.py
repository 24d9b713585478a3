"""A redis-server of a run's own, on a unix socket in a folder of its own, without persistence."""

import asyncio
import shutil
import tempfile
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from channelstream.bench.load import BenchFailed

HOST = "127.0.0.1"
START_TIMEOUT_S = 20.0
LOOK_AGAIN_S = 0.01


@dataclass(frozen=True, slots=True)
class RedisProcess:
    """A server that answers.

    Attributes:
        address: the value of the option `engine`.
    """

    process: Process
    socket: str

    @property
    def address(self) -> str:
        return f"unix://{self.socket}"


@asynccontextmanager
async def redis_process(*flags: str) -> AsyncIterator[RedisProcess]:
    """Start a server with these flags, and end it with the context.

    Raises:
        BenchFailed: redis-server is not installed or does not start.
    """
    program = shutil.which("redis-server")
    if program is None:
        raise BenchFailed("no redis-server is on the PATH; on Debian: apt-get install redis-server")
    with tempfile.TemporaryDirectory(prefix="channelstream-") as folder:
        socket = f"{folder}/redis.sock"
        settings = ("--bind", HOST, "--save", "", "--dir", folder, "--unixsocket", socket)
        process = await asyncio.create_subprocess_exec(
            program,
            *settings,
            *(flags or ("--port", "0")),
            stdin=DEVNULL,
            stdout=DEVNULL,
            start_new_session=True,
        )
        server = RedisProcess(process, socket)
        try:
            await until(lambda: _answers(server), START_TIMEOUT_S, "redis-server did not start")
            yield server
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def _answers(server: RedisProcess) -> bool:
    """Return whether it answers.

    Raises:
        BenchFailed: the process has ended.
    """
    if server.process.returncode is not None:
        raise BenchFailed("redis-server has ended")
    try:
        reader, writer = await asyncio.open_unix_connection(server.socket)
    except OSError:
        return False
    writer.write(b"PING\r\n")
    answer = await reader.readline()
    writer.close()
    return answer.startswith(b"+PONG")


async def until(holds: Callable[[], Awaitable[bool]], timeout_s: float, otherwise: str) -> None:
    """Poll a condition until it holds: Redis does not notify of it.

    Raises:
        BenchFailed: with the text `otherwise`, after the timeout.
    """
    deadline_s = time.monotonic() + timeout_s
    while not await holds():
        if time.monotonic() > deadline_s:
            raise BenchFailed(otherwise)
        await asyncio.sleep(LOOK_AGAIN_S)
