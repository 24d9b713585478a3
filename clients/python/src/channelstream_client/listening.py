"""`Listening`: iterates over the events of a connection, and reconnects after every interruption."""

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Generic, Self, TypeVar

from channelstream_client.events import Event, read_event
from channelstream_client.inbox import Inbox
from channelstream_client.model import Connection
from channelstream_client.protocol import Item
from channelstream_client.pump import Pump, Renew
from channelstream_client.reach import Reach, tls_context
from channelstream_client.resuming import SILENCE_S, Down, Limits, ResumingClient
from channelstream_client.streams import TRANSPORTS, Stream

E = TypeVar("E")


class Iteration(Generic[E]):
    """An asynchronous iterator over what a connection receives, in a form of the caller's choice."""

    _task: asyncio.Task[None] | None = None

    def __init__(
        self,
        client: ResumingClient[Stream],
        reach: Reach,
        read: Callable[[Item], E],
        *,
        renew: Renew | None = None,
        on_down: Callable[[Down], object] | None = None,
        renew_timeout_s: float = SILENCE_S,
        control: Callable[[Item], bool] = lambda _: False,
    ) -> None:
        """Create the iterator. The stream opens when the first event is requested.

        Args:
            reach: TLS context and HTTP client; closed at the end.
            read: converts an item of a stream.
            renew, on_down, renew_timeout_s, control: see `Pump`.
        """
        self._client = client
        self._inbox: Inbox[E] = Inbox()
        self._pump = Pump(client, reach, self._inbox, read, renew, on_down, renew_timeout_s, control)
        self._position = client.position
        self._is_closed = False

    @property
    def conn_id(self) -> str:
        """The id of the connection; `renew` changes it."""
        return self._client.conn_id

    @property
    def position(self) -> str:
        """Position of the last returned event; `listen(since=...)` resumes from it."""
        return self._position

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> E:
        """Return the next event.

        Raises:
            UnknownConnection: the server does not know the connection, and there is no `renew`.
            Replaced: a newer stream of the connection took over.
            StreamClosed: the server closed the stream with a final code.
            Unreachable: `attempts` or `give_up_after_s` is reached.
        """
        self._start()
        taken = await self._inbox.take()
        if taken is None:
            raise StopAsyncIteration
        event, position = taken
        self._position = position or self._position
        if self._inbox.is_empty:
            self._pump.drained()
        return event

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the stream, from any task of the loop. The server keeps the connection for the detach grace period."""
        self._is_closed = True
        self._inbox.clear()
        self._inbox.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def _start(self) -> None:
        if self._task is None and not self._is_closed:
            self._task = asyncio.get_running_loop().create_task(self._pump.run())

    def __del__(self) -> None:
        # The pump has no reference to this object, so it can be collected while the stream is open.
        if self._task is not None and not self._task.done():
            with suppress(RuntimeError):  # The loop is closed.
                self._task.get_loop().call_soon_threadsafe(self._task.cancel)


class Listening(Iteration[Event]):
    """The events of a connection, as an asynchronous iterator. The first event, and the first after each interruption, is
    a `Resumed`.

    The iteration ends when the application ends the connection (`disconnect`). `async with` closes the stream at the end
    of the block; without it the garbage collector closes the stream after a `break`. Cancelling the wait for an event
    (`asyncio.wait_for`) loses no event. An object belongs to one event loop.
    """

    def __init__(
        self,
        url: str,
        conn_id: str | Connection,
        *,
        since: str = "",
        renew: Renew | None = None,
        on_down: Callable[[Down], object] | None = None,
        attempts: int | None = None,
        give_up_after_s: float | None = None,
        silence_s: float = SILENCE_S,
        reach: Reach | None = None,
        transports: Sequence[Stream] = TRANSPORTS,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Create the iterator. The stream opens when the first event is requested.

        Args:
            url: the server's address.
            reach: TLS context and HTTP client; closed at the end.
            transports: the transports to use, best first.
            jitter: returns random numbers from 0 to 1.
            conn_id, since, renew, on_down, attempts, give_up_after_s, silence_s: see `AsyncChannelstream.listen`.
        """
        limits = Limits(attempts=attempts, give_up_after_s=give_up_after_s, silence_s=silence_s)
        known, position = (
            (conn_id.conn_id, conn_id.position) if isinstance(conn_id, Connection) else (conn_id, "")
        )
        client = ResumingClient(
            url,
            known,
            transports,
            jitter,
            position=since or position,
            can_renew=renew is not None,
            limits=limits,
        )
        super().__init__(
            client,
            reach or Reach(lambda: tls_context(url, True)),
            read_event,
            renew=renew,
            on_down=on_down,
            renew_timeout_s=silence_s,
        )
