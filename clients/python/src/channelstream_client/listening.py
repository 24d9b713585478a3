"""`Listening`: the events of a connection, through every interruption."""

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Self

from channelstream_client.events import Event
from channelstream_client.inbox import Inbox
from channelstream_client.pump import Down, Pump, Renew, Rules
from channelstream_client.reach import Reach, tls_context
from channelstream_client.streams import SILENCE_S, TRANSPORTS, Stream, StreamTarget


class Listening:
    """What a connection receives, event by event; a `Resumed` comes first, and again after each interruption.

    The iteration ends when the connection is ended on purpose (`disconnect`). `async with` closes the stream at
    the end of the block; without it a `break` leaves that to the garbage collector. To cancel the wait for an event
    (`asyncio.wait_for`) loses nothing: the next one goes on. It belongs to one event loop.
    """

    _task: asyncio.Task[None] | None = None

    def __init__(
        self,
        url: str,
        conn_id: str,
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
        """Create it; the stream opens when the first event is waited for.

        Args:
            url: the server's address.
            reach: how to get there; it is closed in the end.
            transports: from the best to the last resort.
            jitter: gives random numbers from 0 to 1.
            conn_id, since, renew, on_down, attempts, give_up_after_s, silence_s: see `AsyncChannelstream.listen`.
        """
        rules = Rules(
            renew=renew,
            on_down=on_down,
            attempts=attempts,
            give_up_after_s=give_up_after_s,
            silence_s=silence_s,
        )
        target = StreamTarget(url, conn_id, since, reach or Reach(lambda: tls_context(url, True)))
        self._inbox = Inbox()
        self._pump = Pump(target, self._inbox, rules, transports, jitter)
        self._position = since
        self._is_closed = False

    @property
    def conn_id(self) -> str:
        """The connection; `renew` changes it."""
        return self._pump.conn_id

    @property
    def position(self) -> str:
        """Of the last event handed out; give it to `listen(since=...)` to go on from there."""
        return self._position

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        """The next event.

        Raises:
            UnknownConnection: the server has forgotten the connection, and there is no `renew`.
            Replaced: a newer stream took over.
            StreamClosed: the server does not want this client back.
            Unreachable: the bound of `attempts` or `give_up_after_s` is reached.
        """
        self._start()
        event = await self._inbox.take()
        if event is None:
            raise StopAsyncIteration
        self._position = event.position or self._position
        if self._inbox.is_empty:
            self._pump.drained()
        return event

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the stream, from any task of the loop; the server keeps the connection for a grace period."""
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
        # The pump knows nothing of this object, so it can go although the stream is open.
        if self._task is not None and not self._task.done():
            with suppress(RuntimeError):  # The loop is closed.
                self._task.get_loop().call_soon_threadsafe(self._task.cancel)
