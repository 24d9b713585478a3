"""A client whose script says when it comes back and with which position; what follows is up to `ResumingClient`.

Mostly the position is that of the last event it has handled, as docs/resume.md asks for.
"""

import asyncio
import json
import random
from functools import partial
from typing import Any

from tests.simulation.checker import Checker, Watch
from tests.simulation.line import BlockParser, FrameParser, Items, Line
from tests.simulation.world import Bounds, World

from channelstream.core.connection import Connection
from channelstream.errors import ChannelstreamError
from channelstream.transports.longpoll import PollStream
from channelstream.transports.sse import SSEStream
from channelstream.transports.websocket import WebSocketStream
from channelstream.wire.framing import Framing
from channelstream_client.resuming import OpenStream, ResumingClient

GONE = {1000, 4001}
"""Close codes after which the connection no longer exists."""


class Led:
    """A stream that shows the checker what leads it."""

    watch: Watch

    def write_first(self, data: bytes) -> None:
        [[item]] = self.lists(data)
        self.watch.led(item)
        super().write_first(data)  # type: ignore[misc]

    def lists(self, data: bytes) -> list[Items]:
        """Read the lists of a write."""
        raise NotImplementedError


class WatchedWebSocket(Led, WebSocketStream):
    """The product's WebSocket stream, watched; its writes are watched on its line."""

    def lists(self, data: bytes) -> list[Items]:
        return FrameParser().feed(data)


class WatchedSSE(Led, SSEStream):
    """The product's event stream, watched likewise."""

    def lists(self, data: bytes) -> list[Items]:
        return BlockParser().feed(data)


class WatchedPoll(Led, PollStream):
    """The product's long poll, watched."""

    def lists(self, data: bytes) -> list[Items]:
        return [json.loads(data)]

    def write(self, data: bytes) -> None:
        self.watch.sent(json.loads(data))
        super().write(data)


class Client:
    """One browser, its connection and the line it has at the moment."""

    def __init__(self, number: int, checker: Checker, bounds: Bounds) -> None:
        self.number = number
        self.user = f"u{number % 4}"
        self.connection: Connection | None = None
        self.position = ""
        self.calls = 0
        self.stalled = False
        self.world: World
        self._bounds = bounds
        self._checker = checker
        self._watch: Watch | None = None
        self._line: Line | None = None
        self._parser: FrameParser | BlockParser = FrameParser()
        self._gone: asyncio.Event | None = None
        self._answer: bytes | None = None
        self._polls = False
        self._resumes = True
        self._steps: ResumingClient[str]

    # -- streams

    def attach(self, transport: str, since: str | None) -> None:
        """Open a stream; the one before is dropped as a page that reloads drops it, or is replaced."""
        assert self.connection is not None
        try:
            # It knows the id and nothing more: that may be another connection by now.
            self.connection = self.world.admission.connection({"conn_id": self.connection.id}, Framing.POLL)
        except ChannelstreamError:
            self.forget()
            return
        self._resumes = since is not None
        self._steps = ResumingClient("", self.connection.id, [transport], lambda: 0.0, position=since or "")
        self._steps.next_step(0.0)
        self._checker.began(self, since)
        self._watch = watch = Watch(self, self.world, self.connection, since)
        self._polls = transport == "poll"
        self.stalled = False
        {"ws": self._open_socket, "sse": self._open_socket, "poll": self._open_poll}[transport](
            watch, transport
        )

    def _open_socket(self, watch: Watch, transport: str) -> None:
        line = self._line = Line(self._bounds.outbox_bytes, self._bounds.pauses_late)
        line.on_lost = lambda: self._lost(watch)
        assert self.connection is not None
        stream: Any
        parser: type[FrameParser | BlockParser]
        if transport == "ws":
            stream = WatchedWebSocket(self.world.streams, line, self.connection, deflate=False)
            parser = FrameParser
        else:
            stream = WatchedSSE(self.world.streams, line, self.connection)
            parser = BlockParser
        self._parser = parser()
        line.on_write = partial(self._written, watch, parser())
        stream.watch = watch
        line.protocol = stream
        stream.open(watch.since)

    def _written(self, watch: Watch, parser: FrameParser | BlockParser, data: bytes) -> None:
        """Show the checker each write of the server at once: the client may read it much later."""
        self._checker.wrote(self.number, data)
        for items in parser.feed(data):
            watch.sent(items)

    def _open_poll(self, watch: Watch, _transport: str) -> None:
        self._line = None
        assert self.connection is not None
        stream = WatchedPoll(self.world.streams, self.connection)
        stream.watch = watch
        gone = self._gone = asyncio.Event()
        self._answer = None
        stream.open(watch.since)
        asyncio.get_running_loop().create_task(self._poll(watch, stream, gone))

    async def _poll(self, watch: Watch, stream: PollStream, gone: asyncio.Event) -> None:
        async def until_gone() -> None:
            await gone.wait()

        body = await stream.wait(until_gone)
        self._checker.wrote(self.number, body or b"")
        if body is None or watch is not self._watch:
            return
        if stream.end is None:
            self._answer = body
        else:
            self._lost(watch)
            if stream.end.http_status == 401:
                self.forget()

    def _lost(self, watch: Watch) -> None:
        if watch is self._watch:
            self._watch = self._line = None

    def forget(self) -> None:
        """Forget the connection; the position stays."""
        self.drop()
        self.connection = None

    # -- bytes

    def flow(self, count: int | None = None) -> bool:
        """Read received bytes, up to so many; return whether there were items among them."""
        if self._line is not None:
            line = self._line
            return self._handle(line.take(len(line.unread) if count is None else count))
        if self._answer is None or count is not None:
            return False
        body, self._answer = self._answer, None
        self._read_answer(body)
        return True

    def _handle(self, data: bytes) -> bool:
        watch, parser = self._watch, self._parser
        lists = parser.feed(data)
        for items in lists:
            if watch is not None:
                self._receive(watch, items)
        if parser.close_code in GONE and watch is self._watch:
            self.forget()
        elif parser.close_code is not None and watch is not None:
            watch.over = True
        return any(lists)

    def _read_answer(self, body: bytes) -> None:
        watch = self._watch
        if watch is None:
            return
        self._receive(watch, json.loads(body))
        self._watch = None
        if self.connection is not None:
            self.attach("poll", self._next_poll() if self._resumes else None)

    def _next_poll(self) -> str:
        """Return the position of the next poll, without the wait before it."""
        self._steps.answered(0.0)
        while not isinstance(step := self._steps.next_step(0.0), OpenStream):
            pass
        return step.position

    def _receive(self, watch: Watch, items: Items) -> None:
        for item in items:
            self._checker.delivered(watch, item)
        self._steps.received(items, 0.0)
        if items:  # With a heartbeat it is still the one that the script has chosen.
            self.position = self._steps.position or self.position

    def cut(self, chance: random.Random) -> None:
        """Lose the line after some of the bytes that are on their way."""
        if self._line is not None:
            self.flow(chance.randrange(len(self._line.unread) + 1))
        self.drop()

    def drop(self) -> None:
        """Lose the line now, with the bytes on their way."""
        if self._line is not None:
            self._line.abort()
        if self._gone is not None:
            self._gone.set()
        self._line = self._gone = self._answer = self._watch = None

    def part(self) -> None:
        """End by a close frame (code 1000), where the transport has one."""
        if self._line is not None and isinstance(self._line.protocol, WatchedWebSocket):
            self._line.protocol.data_received(b"\x88\x82\0\0\0\0\x03\xe8")
        self.forget()

    @property
    def busy(self) -> bool:
        """Whether the application has asked for something that may be about its connection."""
        return self.calls > 0

    @property
    def watch(self) -> Watch | None:
        """The stream as the checker sees it, while there is one."""
        return self._watch
