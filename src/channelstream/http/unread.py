"""Bounds how long a client may read nothing of its answer; one that reads slowly may take as long as it needs."""

import asyncio
from collections.abc import Callable

from channelstream.http.line import ack_progress


class UnreadAnswer:
    """Drops a client that reads nothing of the bytes written to it.

    To close such a socket normally would wait for the client, and keep socket and answer for as long as it likes.
    """

    __slots__ = ("_call_later", "_patience_s", "_timer", "_transport")

    def __init__(
        self, transport: asyncio.Transport, patience_s: float, call_later: Callable[..., asyncio.TimerHandle]
    ) -> None:
        """Create a watch that is stopped.

        Args:
            patience_s: time in which a client must acknowledge at least one byte.
            call_later: of the event loop.
        """
        self._transport = transport
        self._patience_s = patience_s
        self._call_later = call_later
        self._timer: asyncio.TimerHandle | None = None

    def watch(self) -> None:
        """Start watching, unless it has started; it stops when all bytes are acknowledged."""
        if self._timer is None:
            self._wait(ack_progress(self._transport))

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wait(self, before: int | None) -> None:
        self._timer = self._call_later(self._patience_s, self._check, before)

    def _check(self, before: int | None) -> None:
        self._timer = None
        now = ack_progress(self._transport)
        if now is None:
            return
        if before is not None and now <= before:
            self._transport.abort()
        else:
            self._wait(now)
