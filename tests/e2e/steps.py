"""Does the steps of the resuming client over the bytes of `tests/e2e/wire.py`.

The client decides what to open next, and from which position. A test sees each list before the client does, so that the
client hides no fault of the server.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable

from tests.e2e.wire import Ended, Items, Wire

from channelstream_client.protocol import LOST, StreamEnded, refused
from channelstream_client.resuming import OpenStream, ResumingClient

BROKEN = (OSError, asyncio.IncompleteReadError)
"""What reading and connecting raise where a line breaks."""


def resuming(conn_id: str, position: str) -> ResumingClient[None]:
    """Return a client that reconnects without waits. Its wires choose the transport."""
    return ResumingClient("", conn_id, [None], lambda: 0.0, position=position)


class Driver:
    """Reads streams one after the other.

    Attributes:
        client: the client, which a test may replace between two streams.
        gave_up: whether a stream was left because it was silent for too long.
    """

    def __init__(
        self,
        client: ResumingClient[None],
        open_wire: Callable[[], Awaitable[Wire]],
        silence_s: float | None = None,
    ) -> None:
        """Create it without a stream.

        Args:
            open_wire: connects, by a transport of its choice.
            silence_s: after so long without a list a stream counts as lost; None means never.
        """
        self.client = client
        self.gave_up = False
        self._silence_s = silence_s
        self._open_wire = open_wire
        self._wire: Wire | None = None

    async def lists(self, opening: OpenStream[None]) -> AsyncGenerator[Items, None]:
        """Yield the lists of one stream or poll. Polls use one connection for as long as it lasts."""
        try:
            wire = self._wire = self._wire or await self._open_wire()
            await wire.ask(opening.conn_id, opening.position)
            while self.client.is_reading:
                items = await self._next_items(wire)
                try:
                    yield items
                finally:  # The test may leave the stream after a list that it has handled.
                    self.client.received(items, time.monotonic())
                if wire.answers_once:
                    self.client.answered(time.monotonic())
        except Ended as end:
            self.client.ended(_end_of(end.code), time.monotonic())
        except BROKEN as error:
            self.gave_up = self.gave_up or isinstance(error, TimeoutError)
            self.client.ended(StreamEnded(LOST, str(error)), time.monotonic())
        finally:
            if self.client.is_reading:  # The test has read enough of it.
                self.client.left(time.monotonic(), to_upgrade=False)
            if not self.client.is_polling:
                await self.close()

    async def _next_items(self, wire: Wire) -> Items:
        async with asyncio.timeout(self._silence_s):
            return await wire.items()

    async def close(self) -> None:
        """Close the wire."""
        wire, self._wire = self._wire, None
        if wire is not None:
            await wire.close()


def _end_of(code: int) -> StreamEnded:
    """Return the end that a wire reports: by a close code, or by the status of an answer without one."""
    return StreamEnded(code, "") if code >= 1000 else refused(code, "", b"", 0.0)
