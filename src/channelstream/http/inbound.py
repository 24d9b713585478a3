"""What a client sends: whether the loop reads it."""

import asyncio


class Inbound:
    """The receiving side of a connection, which may be paused at any time."""

    __slots__ = ("_is_held", "_is_paused", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._is_paused = self._is_held = False

    def pause(self) -> None:
        if not self._is_paused:
            self._is_paused = True
            if not self._is_held:
                self._transport.pause_reading()

    def resume(self) -> None:
        if self._is_paused:
            self._is_paused = False
            if not self._is_held:
                self._transport.resume_reading()

    def hold(self) -> None:
        """Read nothing until `let_go`, whatever `resume` is called for: another process may read instead."""
        if not self._is_held:
            self._is_held = True
            if not self._is_paused:
                self._transport.pause_reading()

    def let_go(self) -> None:
        """Read again, unless the connection itself has paused."""
        if self._is_held:
            self._is_held = False
            if not self._is_paused:
                self._transport.resume_reading()
