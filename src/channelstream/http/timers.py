"""How long a connection waits: for a part of a request, and between two requests."""

import asyncio
from collections.abc import Callable


class Deadline:
    """The time in which something must arrive; one at a time."""

    __slots__ = ("_loop", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None

    def start(self, delay_s: float, do: Callable[..., None], *arguments: object) -> None:
        """Call a function after `delay_s`, in place of what was to be called."""
        self.stop()
        self._timer = self._loop.call_later(delay_s, do, *arguments)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def is_running(self) -> bool:
        return self._timer is not None


class IdleTimer:
    """Measures how long a connection has been idle; one timer of the loop serves many requests."""

    __slots__ = ("_keep_alive_s", "_loop", "_since_s", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, keep_alive_s: float) -> None:
        """Create a timer that does not run.

        Args:
            loop: the event loop.
            keep_alive_s: how long a connection may be idle, in seconds.
        """
        self._loop = loop
        self._keep_alive_s = keep_alive_s
        self._since_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self, close: Callable[[], None]) -> None:
        """Measure from now on.

        Args:
            close: called after `keep_alive_s`, also if the connection is not idle any more.
        """
        self._since_s = self._loop.time()
        if self._timer is None:
            self._wait(self._keep_alive_s, close)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wait(self, delay_s: float, close: Callable[[], None]) -> None:
        self._timer = self._loop.call_later(delay_s, self._check, close)

    def _check(self, close: Callable[[], None]) -> None:
        self._timer = None
        left_s = self._since_s + self._keep_alive_s - self._loop.time()
        if left_s > 0:
            self._wait(left_s, close)
        else:
            close()
