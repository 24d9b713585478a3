"""`BlockingListening`: iterates over the events of a connection, for programs without asyncio."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any, Generic, Self, TypeVar, cast

from channelstream_client.events import Event
from channelstream_client.listening import Iteration
from channelstream_client.model import Connection
from channelstream_client.pump import Renew, takes_an_argument

BlockingRenew = Callable[[], str | Connection] | Callable[[str], str | Connection]
"""Returns a new connection, or its id. A function with an argument receives the last position."""

E = TypeVar("E")
T = TypeVar("T")


class BlockingIteration(Generic[E]):
    """An iterator over what a connection receives; see `Iteration`.

    A separate thread reads the stream, so that it stays open while the application handles an event. `with` closes the
    stream at the end of the block; `close` may be called from any thread.
    """

    _loop: "_LoopThread[E] | None" = None

    def __init__(self, make: Callable[[], Iteration[E]]) -> None:
        """Create the iterator. The stream opens when the first event is requested.

        Args:
            make: returns the iteration that the thread reads.
        """
        self._loop = _LoopThread(make)
        self._listening = self._loop.listening
        self._next: Future[E | None] | None = None
        self._position = self._listening.position

    @property
    def conn_id(self) -> str:
        """The id of the connection; `renew` changes it."""
        return self._listening.conn_id

    @property
    def position(self) -> str:
        """Position of the last returned event; `listen(since=...)` resumes from it."""
        return self._position

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> E:
        """Return the next event; see `get`."""
        event = self._take(None)
        if event is None:
            raise StopIteration
        return event

    def get(self, timeout_s: float) -> E | None:
        """Return the next event; None after the last one.

        Args:
            timeout_s: how long to wait, in seconds.

        Raises:
            TimeoutError: no event arrived in time. A further call loses no event.
            UnknownConnection, Replaced, StreamClosed, Unreachable: as `Listening` raises them.
        """
        return self._take(timeout_s)

    def _take(self, timeout_s: float | None) -> E | None:
        if self._next is None and self._loop is not None:
            waiting = _next_of(self._listening)
            self._next = self._loop.start(waiting)
        if self._next is None:  # It is closed.
            return None
        try:
            event = self._next.result(timeout_s)
        finally:
            # After a timeout the future stays, so that its event goes to the next call.
            if self._next.done():
                self._next = None
        self._position = self._listening.position
        return event

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the stream. The server keeps the connection for the detach grace period."""
        if self._loop is not None:
            self._loop.close()

    def __del__(self) -> None:
        if self._loop is not None:
            self._loop.request_stop()


class BlockingListening(BlockingIteration[Event]):
    """The events of a connection, as an iterator; see `Listening`.

    A separate thread reads the stream, so that it stays open while the application handles an event. `with` closes the
    stream at the end of the block; `close` may be called from any thread.
    """


async def _next_of(iteration: Iteration[E]) -> E | None:
    try:
        return await anext(iteration)
    except StopAsyncIteration:
        return None


def in_a_thread(renew: BlockingRenew) -> Renew:
    """Return a coroutine function that calls `renew` in a thread, because it may block.

    The thread is a daemon, and no worker of the loop: those are waited for at the end of the loop and of the program, but
    `renew` may never return, or may itself wait for the end of the loop (`close`).
    """
    last: Future[str | Connection] | None = None

    async def awaited(position: str) -> str | Connection:
        nonlocal last
        if last is not None and not last.done():
            raise RuntimeError("its last call has not returned")
        last = Future()
        last.set_running_or_notify_cancel()  # From now on it is done only when the call has returned.
        arguments = [position] if takes_an_argument(renew) else []
        call = partial(cast(Callable[..., str | Connection], renew), *arguments)
        threading.Thread(target=_settle, args=(last, call), name="channelstream-renew", daemon=True).start()
        return await asyncio.wrap_future(last)

    return awaited


def _settle(future: Future[T], call: Callable[[], T]) -> None:
    """Give a future the outcome of a call."""
    try:
        future.set_result(call())
    except BaseException as error:
        future.set_exception(error)
    finally:
        del future  # The error refers to this frame.


class _LoopThread(Generic[E]):
    """A thread with an event loop for one `Iteration`."""

    def __init__(self, make: Callable[[], Iteration[E]]) -> None:
        self.listening = make()
        self._loop = asyncio.new_event_loop()
        self._is_over = asyncio.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._is_closed = False

    def start(self, coroutine: Coroutine[Any, Any, T]) -> Future[T] | None:
        """Run a coroutine in the thread. Return None after `close`."""
        with self._lock:
            if self._is_closed:
                coroutine.close()
                return None
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="channelstream-listen", daemon=True)
                self._thread.start()
            return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def close(self) -> None:
        """Close the listening and wait for the end of the thread."""
        self.request_stop()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def request_stop(self) -> None:
        """Make the thread end, without waiting for it."""
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
