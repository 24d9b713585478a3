"""What is written to a client: whether it keeps up with it, and whether it reads any of it."""

import asyncio

from channelstream.http.line import Line
from channelstream.http.unread import UnreadAnswer

WAITING_BYTES = 65_536
"""Bytes that wait in the transport for a client before it counts as full; of TLS the loop would let 512 KiB wait."""


class Outbound:
    """The sending side of a connection.

    Attributes:
        is_full: the transport is full, as the client reads too slowly; `drained` waits until it has room.
        write: of the transport.
    """

    __slots__ = ("_drained", "_keep_alive_s", "_loop", "_transport", "_unread", "is_full", "write")

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, keep_alive_s: float
    ) -> None:
        """Take the sending side of a socket.

        Args:
            transport: of the socket.
            loop: the event loop.
            keep_alive_s: time after which a client is dropped that reads nothing of what was written, in seconds.
        """
        self._transport = transport
        self._loop = loop
        self._keep_alive_s = keep_alive_s
        self._drained: asyncio.Event | None = None
        self._unread: UnreadAnswer | None = None
        self.is_full = False
        self.write = transport.write
        transport.set_write_buffer_limits(WAITING_BYTES)

    def pause(self) -> None:
        """Note that the transport is full."""
        self.is_full = True
        self.watch()

    def resume(self) -> None:
        """Note that the transport has room again, or is closed, and wake what waits for it."""
        self.is_full = False
        if self._drained is not None:
            self._drained.set()
            self._drained = None

    async def drained(self) -> None:
        """Wait until the transport has room, or is closed."""
        while self.is_full:
            if self._drained is None:
                self._drained = asyncio.Event()
            await self._drained.wait()

    def watch(self) -> None:
        """Drop a client that acknowledges nothing of the written bytes."""
        if self._unread is None:
            self._unread = UnreadAnswer(self._transport, self._keep_alive_s, self._loop.call_later)
        self._unread.watch()

    def stop_watching(self) -> None:
        if self._unread is not None:
            self._unread.stop()

    def line(self) -> Line:
        return Line(self._transport)
