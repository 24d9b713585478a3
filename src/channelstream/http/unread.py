"""The time a client has for reading its answer, measured by progress: however slowly it reads, it may end."""

import asyncio
from collections.abc import Callable

from channelstream.http.line import taken


class UnreadAnswer:
    """Drops a client that reads nothing of what was written to it.

    Closing such a socket in the usual way would wait for the client, and keep socket and answer for as long as it likes.
    """

    __slots__ = ("_call_later", "_patience_s", "_timer", "_transport")

    def __init__(
        self, transport: asyncio.Transport, patience_s: float, call_later: Callable[..., asyncio.TimerHandle]
    ) -> None:
        """Create a watch that is not running.

        Args:
            patience_s: how long a client may acknowledge nothing.
            call_later: that of the event loop.
        """
        self._transport = transport
        self._patience_s = patience_s
        self._call_later = call_later
        self._timer: asyncio.TimerHandle | None = None

    def watch(self) -> None:
        """Begin, unless it has begun; it ends by itself when all is read."""
        if self._timer is None:
            self._wait(taken(self._transport))

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wait(self, before: int | None) -> None:
        self._timer = self._call_later(self._patience_s, self._check, before)

    def _check(self, before: int | None) -> None:
        self._timer = None
        now = taken(self._transport)
        if now is None:
            return
        if before is not None and now <= before:
            self._transport.abort()
        else:
            self._wait(now)
