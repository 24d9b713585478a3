"""How the workers of a service ask each other for their metrics: each answers on a unix socket, by its number.

The supervisor makes the directory of the sockets, which only its user may enter. So nothing is needed but files: a scrape
works while Redis is out of reach, and a worker that does not answer in time is reported and not waited for.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from channelstream.integrations.metrics.samples import Family

ANSWER_S = 2.0
"""How long a worker may take to answer, in seconds; scrapers wait for 10 s by default."""
ANSWER_BYTES = 8 << 20
"""Longest answer that is read; one worker has about 30 KB."""

logger = logging.getLogger(__name__)

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Family]).decode


class Worker(NamedTuple):
    """The place of a process among the workers of a service.

    Attributes:
        directory: of the sockets; None if there is none, so that each worker answers for itself.
        number: from 0.
        workers: how many there are.
    """

    directory: Path | None = None
    number: int = 0
    workers: int = 1

    def path(self, number: int) -> Path | None:
        return self.directory and self.directory / f"{number}.sock"


class Siblings:
    """The other workers, and the socket on which they ask this one.

    Attributes:
        are_orphans: the supervisor is dead, so the last worker removes the directory in its place.
    """

    def __init__(self, worker: Worker, collect: Callable[[], Awaitable[list[Family]]]) -> None:
        """Create them; nothing listens yet.

        Args:
            collect: returns the metrics of this worker.
        """
        self.worker = worker
        self.are_orphans = False
        self._collect = collect
        self._server: asyncio.Server | None = None

    async def listen(self) -> None:
        """Answer from now on, in place of a worker that has died."""
        path = self.worker.path(self.worker.number)
        if path is None:
            return
        try:
            path.unlink(missing_ok=True)
            self._server = await asyncio.start_unix_server(self._answer, path)
        except OSError as error:
            logger.warning("this worker is missing in the metrics of the others: %s", error)

    def close(self, is_replaced: bool = False) -> None:
        """Answer no longer.

        Args:
            is_replaced: another process answers at the path.
        """
        path = self.worker.path(self.worker.number)
        if self._server is None or path is None:
            return
        self._server.close()
        if is_replaced:
            return
        with suppress(OSError):
            path.unlink(missing_ok=True)
            if self.are_orphans:
                path.parent.rmdir()

    async def ask_all(self) -> dict[int, list[Family] | None]:
        """Return the metrics of all other workers by their number; None for each that does not answer."""
        if self.worker.directory is None:
            return {}
        numbers = [number for number in range(self.worker.workers) if number != self.worker.number]
        return dict(zip(numbers, await asyncio.gather(*map(self._ask, numbers)), strict=True))

    async def _ask(self, number: int) -> list[Family] | None:
        try:
            async with asyncio.timeout(ANSWER_S):
                reader, writer = await asyncio.open_unix_connection(self.worker.path(number))
                try:
                    return _decode(await _read(reader))
                finally:
                    writer.close()
        except (OSError, TimeoutError, msgspec.MsgspecError) as error:
            logger.debug("worker %d does not answer: %r", number, error)
            return None

    async def _answer(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(_encode(await self._collect()))
            with suppress(OSError):
                await writer.drain()
        finally:
            writer.close()


async def _read(reader: asyncio.StreamReader) -> bytes:
    """Return everything up to the end.

    Raises:
        OSError: it is more than a worker sends.
    """
    data = bytearray()
    while part := await reader.read(1 << 16):
        data += part
        if len(data) > ANSWER_BYTES:
            raise OSError("the answer is too long")
    return bytes(data)
