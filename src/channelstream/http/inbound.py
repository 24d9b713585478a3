"""What a client sends: whether the loop reads it, and in which turn it is taken in."""

import asyncio
from collections.abc import Callable
from contextvars import Context
from functools import partial

from channelstream.http.line import is_tls
from channelstream.slices import TurnQueue

TLS_PAUSED_BYTES = 65_536
"""What the loop receives of a TLS connection while reading is paused; its own bound is 256 KiB."""


class Inbound:
    """The receiving side of a connection, which may be paused at any time.

    Attributes:
        waits_for_turn: whether received bytes are not taken in yet, since many clients have sent some at once.
    """

    __slots__ = ("_is_held", "_is_paused", "_later", "_loop", "_transport", "waits_for_turn")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._later: asyncio.Handle | None = None
        self._is_paused = self._is_held = self.waits_for_turn = False
        if is_tls(transport):
            transport.set_read_buffer_limits(TLS_PAUSED_BYTES)  # type: ignore[attr-defined]

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

    def ask_for_turn(self, read: Callable[[], None], turns: TurnQueue) -> bool:
        """Return whether received bytes may be taken in now; else `read` does it, when it is the turn of this client.

        They wait if other clients have filled this turn of the loop. No more is read of this client until then, so that
        what waits is bounded.

        Args:
            read: takes them in, and resumes reading.
            turns: of all clients.
        """
        if self.waits_for_turn:
            return False
        if turns.has_room():
            return True
        self.waits_for_turn = True
        self.pause()
        turns.put(partial(self.take_turn, read))
        return False

    def take_turn(self, read: Callable[[], None]) -> None:
        """Take in what waits, if anything still does."""
        if self.waits_for_turn:
            self.waits_for_turn = False
            read()

    def take_later(self, read: Callable[[], None]) -> None:
        """Take in what is left in the next turn of the loop, and not in the context of a handler."""
        if self._later is None:
            self._later = self._loop.call_soon(self._take_left, read, context=Context())

    def _take_left(self, read: Callable[[], None]) -> None:
        self._later = None
        read()
