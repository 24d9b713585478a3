"""What all connections of a server share: their bounds, the router, and the set of open sockets."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

from channelstream.core.line_limit import LineLimit
from channelstream.http.answers import AnswerHeads
from channelstream.http.eager import run_eagerly
from channelstream.http.phase import Work
from channelstream.http.router import Router
from channelstream.http.timers import Waits
from channelstream.slices import Slices, TurnQueue

SPARE_SOCKETS = 32
"""Sockets above the limit that are answered with 503; any more are closed at once."""

READS_AT_ONCE = 32
"""Clients whose requests are read in one turn of the loop: 40 to 120 us each, with the handlers of short calls."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """Bounds of connections; sizes in bytes, times in seconds.

    Attributes:
        max_sockets: open sockets; beyond, new ones are answered with 503.
        head_bytes: longest head of a request.
        head_timeout_s: time in which a client must send it, TLS handshake included.
        body_timeout_s: time in which a client must send the body.
        keep_alive_s: time after which an idle connection is closed, or one whose client reads nothing of its answer.
        access_log: log every request.
    """

    max_sockets: int = 1000
    head_bytes: int = 32_768
    head_timeout_s: float = 10.0
    body_timeout_s: float = 30.0
    keep_alive_s: float = 75.0
    access_log: bool = False


class Socket(Protocol):
    """An accepted socket, as `HttpServer` sees it."""

    def stop(self) -> object:
        """Close at once, or after the answer that the client waits for."""

    def abort(self) -> object:
        """Drop it at once."""

    def hold(self) -> object:
        """Begin no further request, and if the server `holds_bodies` complete none either, until `let_go`."""

    def let_go(self) -> object:
        """Continue after `hold`."""

    @property
    def work(self) -> Work:
        """What is done for the client."""


class HttpServer:
    """The state of a server that its connections share."""

    def __init__(
        self,
        settings: HttpSettings,
        router: Router,
        streams: Callable[[], int] = lambda: 0,
        answers: dict[tuple[str, int], int] | None = None,
    ) -> None:
        """Create the state of a server without connections.

        Args:
            settings: the bounds.
            router: finds who serves a request.
            streams: returns the number of open sockets that were taken over.
            answers: counts each answer by the path of its route (`Request.route`) and its status; None for one of its own. A
                plain dict, as it is updated for every request.
        """
        self.settings = settings
        self.router = router
        self.heads = AnswerHeads()
        self.waits = Waits()
        self.inbound = TurnQueue(READS_AT_ONCE)
        """What clients have sent and is not read yet."""
        self._sockets: set[Socket] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.answers = {} if answers is None else answers
        self._streams = streams
        self._empty = asyncio.Event()
        self._full = LineLimit()
        self.is_crowded = False
        """Whether so many clients are connected that what they send at once could fill a loop turn."""
        self.is_held = False
        """Whether no connection begins a request, since another process may take the sockets over."""
        self.holds_bodies = False
        """Whether no request is completed either: its handler would change what is handed over already."""

    @property
    def excess(self) -> int:
        """The number of accepted sockets above the limit; negative below it."""
        return len(self._sockets) + self._streams() - self.settings.max_sockets

    def report_full(self) -> None:
        """Say in the log that a client is refused since too many are connected, unless that was said lately."""
        if self._full.admits(asyncio.get_running_loop().time()):
            logger.warning(
                "%d sockets are open, as many as this process takes: further clients are refused%s",
                self.settings.max_sockets,
                self._full.take_omitted(),
            )

    @property
    def sockets(self) -> list[Socket]:
        """All accepted sockets that are open, those of streams excepted."""
        return list(self._sockets)

    async def hold(self) -> None:
        """Begin no further request on any connection, until `let_go`."""
        self.is_held = True
        await self._for_each(lambda accepted: accepted.hold())

    async def hold_bodies(self) -> None:
        """After `hold`: read no more of any request, until `let_go`."""
        self.holds_bodies = True
        await self._for_each(lambda accepted: accepted.hold())

    async def let_go(self) -> None:
        """Continue after `hold` and `hold_bodies`."""
        self.is_held = self.holds_bodies = False
        await self._for_each(lambda accepted: accepted.let_go())

    def works(self, *kinds: Work) -> bool:
        """Return whether work of one of these kinds is in progress on any connection."""
        return any(accepted.work in kinds for accepted in self._sockets)

    def register(self, accepted: Socket) -> None:
        self._sockets.add(accepted)
        self.is_crowded = len(self._sockets) > READS_AT_ONCE

    def unregister(self, accepted: Socket) -> None:
        self._sockets.discard(accepted)
        self.is_crowded = len(self._sockets) > READS_AT_ONCE
        if not self._sockets:
            self._empty.set()

    def start(self, work: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop) -> None:
        """Run a coroutine up to its first wait, and the rest of it as a task."""
        task = run_eagerly(work, loop)
        if task is not None:
            self.run(task)

    def run(self, task: asyncio.Task[Any]) -> None:
        """Keep a task until it is done."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Close idle sockets, the others after their answer, and return when all are closed."""
        await self._for_each(lambda accepted: accepted.stop())
        while self._sockets:
            self._empty.clear()
            await self._empty.wait()

    async def abort(self) -> None:
        """Drop every socket, and cancel its tasks."""
        await self._for_each(lambda accepted: accepted.abort())
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _for_each(self, do: Callable[[Socket], object]) -> None:
        """Call a function with every socket that is open now, in short loop turns."""
        slices = Slices(asyncio.get_running_loop().time)
        for accepted in list(self._sockets):
            if accepted in self._sockets:
                do(accepted)
            await slices.due()
