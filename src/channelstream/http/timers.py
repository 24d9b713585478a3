"""How long a connection waits: for a part of a request, and between two requests.

Nearly all of these waits end early, and each of the same kind lasts as long. So the waits of one length are in one row, in
the order in which they end, and a row has one timer of the loop. A timer of the loop for each wait would take about as
long as to read the head of a request.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable

LEAST_S = 0.001
"""Resolution of the loop's clock, in seconds."""


class Waits:
    """The waits of all connections of a server, by their lengths, which are few: settings and constants."""

    def __init__(self) -> None:
        self._rows: dict[float, _Row] = {}

    def start(self, delay_s: float, do: Callable[..., None], arguments: tuple[object, ...]) -> "Wait":
        """Call a function after a delay in seconds, unless the wait is cancelled."""
        row = self._rows.get(delay_s)
        if row is None:
            row = self._rows[delay_s] = _Row(delay_s)
        return row.start(do, arguments)


class Wait:
    """A call that will be made."""

    __slots__ = ("arguments", "do", "due_s", "row")

    def __init__(
        self, row: "_Row", due_s: float, do: Callable[..., None], arguments: tuple[object, ...]
    ) -> None:
        self.row = row
        self.due_s = due_s
        self.do = do
        self.arguments = arguments

    def cancel(self) -> None:
        self.row.waiting.pop(self, None)


class _Row:
    """Waits of one length, the one that ends first at the front."""

    __slots__ = ("_delay_s", "_has_timer", "_loop", "waiting")

    def __init__(self, delay_s: float) -> None:
        self.waiting: OrderedDict[Wait, None] = OrderedDict()
        self._delay_s = delay_s
        self._loop = asyncio.get_running_loop()
        self._has_timer = False

    def start(self, do: Callable[..., None], arguments: tuple[object, ...]) -> Wait:
        wait = Wait(self, self._loop.time() + self._delay_s, do, arguments)
        self.waiting[wait] = None
        if not self._has_timer:
            self._wake_after(self._delay_s)
        return wait

    def _wake_after(self, delay_s: float) -> None:
        self._has_timer = True
        self._loop.call_later(delay_s, self._wake)

    def _wake(self) -> None:
        """Make the calls that are due; if one fails, the others are made when the loop has reported it."""
        now_s = self._loop.time()
        try:
            while (left_s := self._left_s(now_s)) is not None and left_s <= 0:
                wait, _ = self.waiting.popitem(last=False)
                wait.do(*wait.arguments)
        finally:
            self._has_timer = False
            if (left_s := self._left_s(now_s)) is not None:
                self._wake_after(max(left_s, LEAST_S))

    def _left_s(self, now_s: float) -> float | None:
        """Return the time until the first wait ends; None if there is none."""
        return next(iter(self.waiting)).due_s - now_s if self.waiting else None


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

    def start(self, do: Callable[..., None], *arguments: object) -> None:
        """Measure from now on, and call a function after `keep_alive_s`, also if the connection is not idle any more."""
        self._since_s = self._loop.time()
        if self._timer is None:
            self._wait(self._keep_alive_s, do, arguments)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wait(self, delay_s: float, do: Callable[..., None], arguments: tuple[object, ...]) -> None:
        self._timer = self._loop.call_later(delay_s, self._check, do, arguments)

    def _check(self, do: Callable[..., None], arguments: tuple[object, ...]) -> None:
        self._timer = None
        left_s = self._since_s + self._keep_alive_s - self._loop.time()
        if left_s > 0:
            self._wait(left_s, do, arguments)
        else:
            do(*arguments)
