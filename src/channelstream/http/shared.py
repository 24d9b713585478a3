"""What all connections of a server share: what they are bounded by, who answers, and which of them are open."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from channelstream.asgi import App, Scope
from channelstream.core.http_head import RequestHead
from channelstream.core.policy import Policy
from channelstream.http.answers import DateLine
from channelstream.slices import Slices

SPARE_SOCKETS = 32
"""Sockets above the limit whose clients may read why they are refused; more are closed at once."""


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """Bounds of connections; sizes in bytes, times in seconds.

    Attributes:
        max_sockets: open sockets, above which new ones are answered 503.
        head_bytes: longest head of a request.
        head_timeout_s: how long a client may take to send it, TLS handshake included.
        body_timeout_s: how long a client may take to send what follows the head.
        keep_alive_s: how long an idle connection stays open, and how long a client may read nothing of its answer.
        access_log: log every request.
    """

    max_sockets: int = 1000
    head_bytes: int = 32_768
    head_timeout_s: float = 10.0
    body_timeout_s: float = 30.0
    keep_alive_s: float = 75.0
    access_log: bool = False


class Socket(Protocol):
    """An accepted socket, as the door sees it."""

    def stop(self) -> object:
        """Close at once, or behind the answer the client waits for."""

    def abort(self) -> object:
        """Drop it."""


class Detachable(Protocol):
    """A connection, as those see it who take its socket over."""

    @property
    def is_open(self) -> bool:
        """Whether the client is still there and its request unanswered."""

    def release(self) -> tuple[asyncio.Transport, bytes]:
        """Let go of the socket; return it, and what has been received behind the request."""

    def serve(self) -> None:
        """Let the application answer the request, after all."""


TakeOver = Callable[[Detachable], None]
"""Takes the socket of a request over."""
Router = Callable[[RequestHead, Scope], TakeOver | None]
"""Says who takes over the socket of a request; None leaves it to the application. May refuse it with an error."""


class HttpServer:
    """The state of a server that its connections share."""

    def __init__(
        self,
        settings: HttpSettings,
        app: App,
        router: Router,
        policy: Policy,
        streams: Callable[[], int] = lambda: 0,
    ) -> None:
        """Create a door through which nobody has come.

        Args:
            streams: says how many sockets have been taken over and are open.
        """
        self.settings = settings
        self.app = app
        self.router = router
        self.policy = policy
        self.date = DateLine()
        self._sockets: set[Socket] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._streams = streams
        self._empty = asyncio.Event()

    @property
    def excess(self) -> int:
        """How many sockets there are above the limit, every accepted one counted."""
        return len(self._sockets) + self._streams() - self.settings.max_sockets

    def register(self, accepted: Socket) -> None:
        self._sockets.add(accepted)

    def unregister(self, accepted: Socket) -> None:
        self._sockets.discard(accepted)
        if not self._sockets:
            self._empty.set()

    def run(self, task: asyncio.Task[Any]) -> None:
        """Keep a task until it is done."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Close what is idle, let answers that are due go out, and return when all sockets are closed."""
        await self._each(lambda accepted: accepted.stop())
        while self._sockets:
            self._empty.clear()
            await self._empty.wait()

    async def abort(self) -> None:
        """Drop every socket, and end the work for it."""
        await self._each(lambda accepted: accepted.abort())
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _each(self, do: Callable[[Socket], object]) -> None:
        """Do something to every socket that is open now, of very many in short turns."""
        slices = Slices(asyncio.get_running_loop().time)
        for accepted in list(self._sockets):
            if accepted in self._sockets:
                do(accepted)
            await slices.due()
