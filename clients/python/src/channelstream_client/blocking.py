"""`BlockingListening`: the events of a connection, for programs without asyncio."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Self, TypeVar

from channelstream_client.events import Event
from channelstream_client.listening import Listening
from channelstream_client.model import Connection

BlockingRenew = Callable[[], str | Connection] | Callable[[str], str | Connection]
"""Gives a new connection; one that takes an argument is given the last position."""

T = TypeVar("T")


class BlockingListening:
    """What a connection receives, event by event: an iterator; see `Listening`.

    A thread of its own reads the stream, so that it stays open while an event is handled. `with` closes it at the
    end of the block, or `close` from any thread.
    """

    _loop: "_LoopThread | None" = None

    def __init__(self, make: Callable[[], Listening]) -> None:
        """Create it; the stream opens when the first event is waited for.

        Args:
            make: called in the thread.
        """
        self._loop = _LoopThread(make)
        self._listening = self._loop.listening
        self._next: Future[Event | None] | None = None
        self._position = self._listening.position

    @property
    def conn_id(self) -> str:
        """The connection; `renew` changes it."""
        return self._listening.conn_id

    @property
    def position(self) -> str:
        """Of the last event handed out; give it to `listen(since=...)` to go on from there."""
        return self._position

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        """The next event; see `get`."""
        event = self._take(None)
        if event is None:
            raise StopIteration
        return event

    def get(self, timeout_s: float) -> Event | None:
        """The next event; None after the last.

        Args:
            timeout_s: how long to wait for it, in seconds.

        Raises:
            TimeoutError: none came in time; to ask again loses nothing.
            UnknownConnection, Replaced, StreamClosed, Unreachable: as `Listening` raises them.
        """
        return self._take(timeout_s)

    def _take(self, timeout_s: float | None) -> Event | None:
        if self._next is None and self._loop is not None:
            self._next = self._loop.start(_next_of(self._listening))
        if self._next is None:  # It is closed.
            return None
        try:
            event = self._next.result(timeout_s)
        finally:
            # Of a wait that was given up the event is kept for the next one.
            if self._next.done():
                self._next = None
        self._position = event.position or self._position if event else self._position
        return event

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the stream; the server keeps the connection for a grace period."""
        if self._loop is not None:
            self._loop.close()

    def __del__(self) -> None:
        if self._loop is not None:
            self._loop.request_stop()


async def _next_of(listening: Listening) -> Event | None:
    return await anext(listening, None)


class _LoopThread:
    """A thread with an event loop that one `Listening` lives in."""

    def __init__(self, make: Callable[[], Listening]) -> None:
        self.listening = make()
        self._loop = asyncio.new_event_loop()
        self._is_over = asyncio.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._is_closed = False

    def start(self, coroutine: Coroutine[Any, Any, T]) -> Future[T] | None:
        """Run a coroutine in the thread; None after `close`."""
        with self._lock:
            if self._is_closed:
                coroutine.close()
                return None
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="channelstream-listen", daemon=True)
                self._thread.start()
            return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def close(self) -> None:
        """End what runs, and the thread."""
        self.request_stop()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def request_stop(self) -> None:
        """End the thread without waiting for it."""
        with self._lock:
            self._is_closed = True
            if self._thread is None:
                self._loop.close()
                return
        with suppress(RuntimeError):  # The loop is closed.
            self._loop.call_soon_threadsafe(self._is_over.set)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._wait())

    async def _wait(self) -> None:
        await self._is_over.wait()
        await self.listening.aclose()
