"""`Listening`: the events of a connection, through every interruption."""

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from typing import Self, cast

from channelstream_client.errors import CLOSINGS, StreamClosed
from channelstream_client.events import Event, read_event
from channelstream_client.exchange import Retries
from channelstream_client.streams import (
    LOST,
    NORMAL,
    TRANSPORTS,
    UNKNOWN_CONNECTION,
    Item,
    NotOffered,
    Place,
    Stream,
    StreamEnded,
)

Renew = Callable[[], Awaitable[str]]
"""Asks the application for a new `conn_id`."""

FINAL = frozenset({1002, 1003, 1007, 1008, 1009, 4002})
"""Close codes after which a client must not come back (docs/api.md, "Closing")."""
WAITS = Retries(longest_wait_s=10.0)
"""How long to wait before coming back; there is no last attempt."""


class Listening:
    """What a connection hears, event by event; a `Resumed` comes first, and again after each interruption.

    The iteration ends when the connection is ended on purpose (`disconnect`). `async with` closes the stream at
    the end of the block; without it a `break` leaves that to the garbage collector.

    Attributes:
        conn_id: the connection; `renew` changes it.
        position: of the last event handed out; give it to `listen(since=...)` to go on from there.
    """

    def __init__(
        self,
        url: str,
        conn_id: str,
        *,
        since: str = "",
        renew: Renew | None = None,
        transports: Sequence[Stream] = TRANSPORTS,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.conn_id = conn_id
        self.position = since
        self._url = url
        self._renew = renew
        self._transports = list(transports)
        self._jitter = jitter
        self._failures = 0
        self._events = self._listen()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        """The next event.

        Raises:
            UnknownConnection: the server has forgotten the connection, and there is no `renew`.
            Replaced: a newer stream took over.
            StreamClosed: the server does not want this client back.
        """
        return await anext(self._events)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the stream; the server keeps the connection for a grace period."""
        await self._events.aclose()

    async def _listen(self) -> AsyncGenerator[Event, None]:
        while True:
            try:
                async with aclosing(self._follow()) as events:
                    async for event in events:
                        yield event
            except StreamEnded as end:
                if end.code == NORMAL:
                    return
                await self._come_back(end)

    async def _follow(self) -> AsyncGenerator[Event, None]:
        """The events of one stream; a position counts once its event is handed out."""
        place = Place(self._url, self.conn_id, self.position)
        stream = cast(AsyncGenerator[list[Item], None], self._transports[0](place))
        async with aclosing(stream):
            async for items in stream:
                self._failures = 0
                for event in _events(items):
                    self.position = event.position or self.position
                    yield event

    async def _come_back(self, end: StreamEnded) -> None:
        """Wait before the next stream, on a lesser transport where this one does not get through.

        Raises:
            StreamClosed: there is to be none.
        """
        if end.code in FINAL or (end.code == UNKNOWN_CONNECTION and self._renew is None):
            raise CLOSINGS.get(end.code, StreamClosed)(end.code, end.reason) from end
        if isinstance(end, NotOffered) and len(self._transports) > 1:
            del self._transports[0]
            return
        self._failures += 1
        await asyncio.sleep(end.retry_after_s + WAITS.wait_s(self._failures, self._jitter()))
        if end.code == UNKNOWN_CONNECTION and self._renew is not None:
            self.conn_id = await self._renew()


def _events(items: Sequence[Item]) -> Iterator[Event]:
    """The events of one list; a last word of SSE and long poll ends the stream."""
    for item in items:
        if isinstance(item, dict) and item.get("type") == "closing":
            raise StreamEnded(item.get("code", LOST), item.get("reason", ""))
        yield read_event(item)
