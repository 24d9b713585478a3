"""What a client sends: whether the loop reads it."""

import asyncio


class Inbound:
    """The receiving side of a connection, which may be paused at any time."""

    __slots__ = ("_is_paused", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._is_paused = False

    def pause(self) -> None:
        if not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._is_paused:
            self._is_paused = False
            self._transport.resume_reading()
