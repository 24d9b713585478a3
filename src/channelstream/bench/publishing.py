"""Publishing by several publishers, each with one call at a time, on a schedule or as fast as possible."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from channelstream.bench.checker import Source
from channelstream.bench.http import HttpConnection, open_http
from channelstream.bench.load import WINDOW_MESSAGES, Load
from channelstream.bench.stamps import Stamp, payload, text_of
from channelstream.bench.wire import Wire

RENEW_SIGNATURE_S = 20.0
"""Age at which a signature is renewed. Servers refuse it after a minute."""

Addressed = tuple[str, bytes]
"""The name of a channel, and the JSON of a message for it."""


class Publisher(Protocol):
    """Publishes messages, one call at a time."""

    async def publish(self, messages: Sequence[Addressed]) -> None: ...

    def close(self) -> None: ...


OpenPublisher = Callable[[Wire], Awaitable[Publisher]]


class HttpPublisher:
    """Publishes by `/message` over one keep-alive connection."""

    def __init__(self, wire: Wire, connection: HttpConnection) -> None:
        self._wire = wire
        self._connection = connection
        self._headers = b""
        self._signed_at = float("-inf")

    async def publish(self, messages: Sequence[Addressed]) -> None:
        items = [
            b'{"channel":"%b","user":"bench","message":%b}' % (name.encode(), text) for name, text in messages
        ]
        body = b"[%b]" % b",".join(items)
        await self._connection.call(self._wire.post("/message", body, self._signed(body)))

    def _signed(self, body: bytes) -> bytes:
        """Return the headers that sign a call; those over the path alone are good for many."""
        now = time.monotonic()
        if self._wire.signs_whole:
            return self._wire.signed("POST", "/message", body)
        if now - self._signed_at > RENEW_SIGNATURE_S:
            self._headers, self._signed_at = self._wire.signature("/message"), now
        return self._headers

    def close(self) -> None:
        self._connection.close()


async def open_publisher(wire: Wire) -> Publisher:
    """Open a publisher for a server with channelstream's API."""
    return HttpPublisher(wire, await open_http(wire, wire.tls_context()))


class Publishing:
    """The messages of one run.

    Attributes:
        sent: number of accepted messages for each publisher and channel.
        requests: number of answered calls.
    """

    def __init__(self, load: Load, channels: Sequence[str]) -> None:
        self._load = load
        self._channels = channels
        self._begun = 0
        self._is_stopped = False
        self._start = time.monotonic()
        self._received: Callable[[], int] = lambda: 0
        self._ticked = asyncio.Event()
        self.sent: dict[Source, int] = {}
        self.requests = 0

    @property
    def messages(self) -> int:
        return sum(self.sent.values())

    def stop(self) -> None:
        """Begin no further call."""
        self._is_stopped = True

    async def run(
        self, publishers: Sequence[Publisher], received: Callable[[], int], ticked: asyncio.Event
    ) -> None:
        """Publish until the load is done.

        Args:
            received: returns the number of messages that all clients together have received so far.
            ticked: set whenever `received` has changed.
        """
        self._start = time.monotonic()
        self._received, self._ticked = received, ticked
        async with asyncio.TaskGroup() as tasks:
            for number, publisher in enumerate(publishers):
                tasks.create_task(self._publish_all(number, publisher))

    async def _publish_all(self, number: int, publisher: Publisher) -> None:
        text = text_of(self._load.payload_bytes, number)
        numbers = [0] * len(self._channels)
        while self._has_more():
            turn, count = self._begun, self._next_count()
            self._begun += count
            await self._until_due(turn)
            channels = [(turn + each) % len(self._channels) for each in range(count)]
            messages = []
            for channel in channels:
                stamp = Stamp(number, channel, numbers[channel], time.monotonic_ns())
                numbers[channel] += 1
                messages.append((self._channels[channel], payload(stamp, text)))
            await publisher.publish(messages)
            self.requests += 1
            self.sent |= {(number, channel): numbers[channel] for channel in channels}

    def _has_more(self) -> bool:
        load = self._load
        if self._is_stopped:
            return False
        if load.messages and self._begun >= load.messages:
            return False
        return not load.duration_s or time.monotonic() - self._start < load.duration_s

    def _next_count(self) -> int:
        left = self._load.messages - self._begun if self._load.messages else self._load.items
        return min(self._load.items, left)

    async def _until_due(self, turn: int) -> None:
        """Wait until a message is due by the schedule, or until few enough messages are undelivered."""
        if self._load.rate_per_s:
            await asyncio.sleep(self._start + turn / self._load.rate_per_s - time.monotonic())
            return
        while turn * self._load.clients - self._received() > WINDOW_MESSAGES * self._load.clients:
            self._ticked.clear()
            await self._ticked.wait()
