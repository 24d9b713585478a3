"""uvicorn's HTTP protocol, bounded, and able to hand its socket over to a WebSocket or an event stream.

Streams do not pass through ASGI: after the head of the request the socket belongs to a small protocol of ours, so that an
idle stream costs neither a task nor the HTTP parser.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from channelstream.asgi import AT_ONCE
from channelstream.core.connection import Connection
from channelstream.core.deflate import negotiate
from channelstream.core.handshake import BadHandshake, accept
from channelstream.core.policy import Header, header
from channelstream.core.query import read_query
from channelstream.core.websocket import close_frame
from channelstream.errors import ChannelstreamError, CloseCode, Moved, Replaced, Unavailable
from channelstream.transports.line import LINE, taken
from channelstream.transports.sse import SSEStream
from channelstream.transports.streams import Streams
from channelstream.transports.unread import UnreadAnswer
from channelstream.transports.websocket import WebSocketStream

WEBSOCKET_PATH = "/ws"
SSE_PATH = "/sse"
FRAMING = (b"content-length", b"transfer-encoding")
"""Fields that announce a body."""
VERSIONS = ("1.0", "1.1")
SSE_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-store\r\n"
    b"x-accel-buffering: no\r\nx-content-type-options: nosniff\r\nconnection: close\r\n"
)


class StreamingHttp(HttpToolsProtocol):
    """One accepted socket as long as it speaks HTTP.

    `streams` and `max_sockets` are set by `protocol_for` in a subclass made for one server.
    """

    streams: ClassVar[Streams]
    max_sockets: ClassVar[int]
    flow: "_Flow"

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._head_left = self.streams.settings.head_bytes
        self._head_timer: asyncio.TimerHandle | None = None
        self._body_timer: asyncio.TimerHandle | None = None
        self._in_head = True
        self._in_body = False
        self._received = bytearray()
        self._event_stream: RequestResponseCycle | None = None
        self._unread: UnreadAnswer | None = None

    # -- the bounds of a head

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self.flow = _Flow(transport)  # type: ignore[arg-type]
        self._expect_head()
        if len(self.connections) + self.streams.open > self.max_sockets:
            self._refuse(503, b"Too many connections; try again later.")

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_complete()
        self._body_is_complete()
        self._all_is_read()
        super().connection_lost(exc)

    def _expect_head(self) -> None:
        self._head_timer = self.loop.call_later(
            self.streams.settings.head_timeout_s, self._refuse, 408, b"The request took too long."
        )

    def _head_is_complete(self) -> None:
        self._in_head = False
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _expect_body(self) -> None:
        self._body_timer = self.loop.call_later(
            self.streams.settings.body_timeout_s, self._refuse, 408, b"The body took too long."
        )

    def _body_is_complete(self) -> None:
        self._in_body = False
        if self._body_timer is not None:
            self._body_timer.cancel()
            self._body_timer = None

    def _refuse(self, status: int, text: bytes, headers: Sequence[Header] = ()) -> None:
        self._head_is_complete()
        self._body_is_complete()
        if not self.transport.is_closing():
            head = b"HTTP/1.1 %d \r\ncontent-type: text/plain\r\ncontent-length: %d\r\n" % (status, len(text))
            fields = _lines(headers or [(b"connection", b"close")])
            self.transport.write(head + fields + b"\r\n" + text)
            self.transport.close()
            self._expect_to_be_read()

    # -- the bounds of an answer

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect_to_be_read()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._received:
            self._read_on()
        if not self.pipeline and self.flow is not None:
            self.flow.release()
        if self.transport.is_closing():
            self._expect_to_be_read()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle socket, but not one whose client still reads the last answer."""
        if taken(self.transport) is None:
            super().timeout_keep_alive_handler()
        else:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
        self._expect_to_be_read()

    def _expect_to_be_read(self) -> None:
        if self._unread is None:
            self._unread = UnreadAnswer(self.transport, self.timeout_keep_alive, self.loop.call_later)
        self._unread.watch()

    def _all_is_read(self) -> None:
        if self._unread is not None:
            self._unread.stop()
            self._unread = None

    # -- reading

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._read_on()

    def _read_on(self) -> None:
        """Read what was received, up to a request that waits for the answer to the one before.

        While it waits the socket is not read either: a client that does not read its answers holds up its own requests.
        """
        self._unset_keepalive_if_required()
        received = self._received
        while received and not self.pipeline and self.parser is not None and not self.transport.is_closing():
            # A head ends with an empty line, so that a piece holds the end of one request and the head of one more.
            end = received.find(b"\r\n\r\n") + 4
            piece = bytes(received[:end] if end > 3 else received)
            del received[: len(piece)]
            received[:0] = self._feed(piece)
        if self.pipeline:
            self.flow.hold()

    def _feed(self, data: bytes) -> bytes:
        """Read data, and return what follows an upgrade that is ignored: it is HTTP again."""
        self._head_left -= len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            return self._upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._refuse(400, b"Invalid HTTP request.")
        else:
            if self._head_left < 0:
                self._refuse(431, b"The head of the request is too long.")
            else:
                self._time_the_rest()
        return b""

    def _time_the_rest(self) -> None:
        """Bound the time of what has begun and is not whole; most requests come in one piece and need no timer."""
        if self._in_body:
            if self._body_timer is None:
                self._expect_body()
        elif self._head_timer is None and (self._in_head or self._is_answered()):
            self._expect_head()

    def _is_answered(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True

    def on_headers_complete(self) -> None:
        self._check_framing()
        self._head_is_complete()
        self._head_left = self.streams.settings.head_bytes
        self._in_body = True
        super().on_headers_complete()

    def _check_framing(self) -> None:
        """Raise for a head that the parser passes although its end is not certain (RFC 9112, 2.3 and 6.1)."""
        version = self.parser.get_http_version()
        codings = b",".join(value for name, value in self.headers if name == b"transfer-encoding")
        is_chunked = codings.rpartition(b",")[2].strip().lower() == b"chunked" and version == "1.1"
        if version not in VERSIONS or (codings and not is_chunked):
            raise ValueError("Where this request ends is not certain.")

    def on_body(self, body: bytes) -> None:
        # What is left counts for the trailers that may follow, which the parser keeps like a head.
        self._head_left = self.streams.settings.head_bytes
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade() and self._has_body():
            # The parser takes what follows any upgrade for another protocol; see `_ignore_upgrade`.
            return
        self._body_is_complete()
        self._head_left = self.streams.settings.head_bytes
        super().on_message_complete()

    def _upgrade(self, rest: bytes) -> bytes:
        """Open the WebSocket, or return what is to be read as HTTP where the upgrade is ignored."""
        if not self._should_upgrade():
            return self._ignore_upgrade() + rest
        if self._has_body():
            self._refuse(400, b"A request for a WebSocket has no body.")
        elif self.cycle is not None and not self.cycle.response_complete:
            self._refuse(400, b"Wait for the answer before you upgrade.")
        else:
            self._open_websocket(rest + self._received)
        return b""

    def _ignore_upgrade(self) -> bytes:
        """Return a head to read once more, without the upgrade, so that the parser reads the body behind it."""
        framing = [field for field in self.headers if field[0] in FRAMING]
        version = self.parser.get_http_version().encode()
        if framing:
            self.parser = httptools.HttpRequestParser(_HeadReadAgain(self))
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            return b"POST / HTTP/%b\r\n%b\r\n" % (version, _lines(framing))
        return b""

    def _has_body(self) -> bool:
        return any(name in FRAMING for name, _ in self.headers)

    def _should_upgrade(self) -> bool:
        """Say whether the request asks for the WebSocket endpoint; any other upgrade is ignored (RFC 9110, 7.8)."""
        return (
            self._get_upgrade() == b"websocket"
            and self._path() == WEBSOCKET_PATH
            and self.parser.get_method() == b"GET"
            and self.parser.get_http_version() == "1.1"
        )

    def _path(self) -> str:
        """Return the path of the request at hand, as far as it concerns us; its scope may have none yet."""
        scope: Any = self.scope
        scope["path"] = self.url.partition(b"?")[0].decode("latin-1")
        return self.streams.policy.path(scope)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        if self._wants_event_stream(cycle.scope):
            self._event_stream = cycle
            # Not before the parser, which may be calling us, is done: the socket leaves it.
            self.streams.run(self._fetch_for_event_stream(read_query(cycle.scope["query_string"])))
        else:
            scope: Any = cycle.scope
            scope["extensions"] = {
                AT_ONCE: partial(self._answer, cycle),
                LINE: partial(taken, self.transport),
            }
            super()._start_asgi_task(cycle, app)

    def _answer(
        self, cycle: RequestResponseCycle, status: int, headers: Sequence[Header], body: bytes
    ) -> bool:
        """Send a whole answer in one write; False leaves the rare cases to uvicorn (see `asgi.AT_ONCE`)."""
        # Scope and cycle hold each other by way of this method; untied they need not wait for the garbage collector.
        cycle.scope.pop("extensions")
        if cycle.disconnected:
            return True
        if status != 200 or not cycle.keep_alive or cycle.access_log or self.flow.write_paused:
            return False
        self.transport.write(
            b"HTTP/1.1 200 OK\r\n%b%b\r\n%b" % (_lines(cycle.default_headers), _lines(headers), body)
        )
        cycle.response_started = cycle.response_complete = True
        cycle.message_event.set()
        cycle.on_response()
        return True

    def _wants_event_stream(self, scope: Any) -> bool:
        """Say whether this request is an event stream to open; one that has to be refused is answered by the app."""
        if self.streams.policy.path(scope) != SSE_PATH or scope["method"] != "GET":
            return False
        try:
            query = self._admit(scope)
            return self.streams.is_elsewhere(query) or bool(self.streams.connection(query))
        except ChannelstreamError:
            return False

    def _admit(self, scope: Any) -> dict[str, str]:
        """Return the query of a request for an event stream that may be opened, if its connection is known."""
        self.streams.policy.check_transport(scope)
        self.streams.policy.check_origin(scope["headers"])
        return read_query(scope["query_string"])

    # -- handing over

    def _open_websocket(self, rest: bytes) -> None:
        scope: Any = self.scope
        path, _, query = self.url.partition(b"?")
        scope["path"], scope["query_string"] = path.decode("latin-1"), query
        try:
            handshake = accept(scope["headers"])
            self.streams.policy.check_transport(scope)
            self.streams.policy.check_origin(scope["headers"])
        except ChannelstreamError as error:
            fields = error.headers if isinstance(error, BadHandshake) else ()
            self._refuse(error.http_status, error.message.encode(), fields)
            return
        transport = self._let_go()
        deflate = negotiate(handshake.offers) if self.streams.settings.compression else None
        transport.write(handshake.response(deflate))
        opening = _Opening(self.streams, transport, read_query(query), deflate is not None, rest)
        try:
            if self.streams.is_elsewhere(opening.query):
                self.streams.run(opening.fetch())
            else:
                opening.open(self.streams.connection(opening.query))
        except ChannelstreamError as error:
            _refuse_websocket(transport, error)

    async def _fetch_for_event_stream(self, query: dict[str, str]) -> None:
        """Fetch the connection if another node has it, perhaps only since a moment; where it is nowhere, opening says so."""
        with suppress(ChannelstreamError):
            await self.streams.adopt(query)
        self._open_event_stream()

    def _open_event_stream(self) -> None:
        cycle, self._event_stream = self._event_stream, None
        if cycle is None or self.transport.is_closing():
            return
        scope: Any = cycle.scope
        try:
            connection = self.streams.connection(self._admit(scope))
        except ChannelstreamError:
            # It has ended since this request was read: the application says so.
            super()._start_asgi_task(cycle, self.app)
            return
        parameters = read_query(scope["query_string"])
        last_id = header(scope["headers"], b"last-event-id")
        # Empty is as good as absent (HTML Living Standard 9.2.3): it must not hide the position in the query.
        since = last_id.decode("latin-1") if last_id else parameters.get("since")
        transport = self._let_go()
        transport.write(SSE_HEAD + _lines(self.streams.policy.cors(scope["headers"])) + b"\r\n")
        stream = SSEStream(self.streams, transport, connection)
        transport.set_protocol(stream)
        stream.open(since)

    def _let_go(self) -> asyncio.Transport:
        """Leave the socket to another protocol, and nothing behind that only the garbage collector could free."""
        transport = self.transport
        self.flow.release()
        self.pipeline.clear()
        self._unset_keepalive_if_required()
        self._head_is_complete()
        self._body_is_complete()
        self._all_is_read()
        self._received = bytearray()
        self.connections.discard(self)
        self.parser = self.cycle = self.flow = self.scope = None  # type: ignore[assignment]
        self.headers = []
        return transport


class _Flow(FlowControl):
    """Reading and writing of a socket, of which reading can be held."""

    _is_held = False

    def hold(self) -> None:
        self._is_held = True
        self.pause_reading()

    def release(self) -> None:
        self._is_held = False
        self.resume_reading()

    def resume_reading(self) -> None:
        if not self._is_held:
            super().resume_reading()


class _HeadReadAgain:
    """Callbacks of a parser whose first head has been read before; all else goes to the protocol."""

    def __init__(self, front: StreamingHttp) -> None:
        self._front = front
        self._is_again = True
        self.on_body = front.on_body
        self.on_message_complete = front.on_message_complete

    def on_message_begin(self) -> None:
        if not self._is_again:
            self._front.on_message_begin()

    def on_url(self, url: bytes) -> None:
        if not self._is_again:
            self._front.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._is_again:
            self._front.on_header(name, value)

    def on_headers_complete(self) -> None:
        if not self._is_again:
            self._front.on_headers_complete()
        self._is_again = False


@dataclass(frozen=True, slots=True)
class _Opening:
    """A WebSocket between its handshake and its stream.

    Attributes:
        rest: what the client has sent behind its handshake.
    """

    streams: Streams
    transport: asyncio.Transport
    query: dict[str, str]
    deflate: bool
    rest: bytes

    async def fetch(self) -> None:
        """Open the stream of a connection that another node holds; what the client sends meanwhile waits."""
        self.transport.pause_reading()
        try:
            connection = await self.streams.adopt(self.query)
        except ChannelstreamError as error:
            _refuse_websocket(self.transport, error)
            return
        if not self.transport.is_closing():
            self.open(connection)
            self.transport.resume_reading()

    def open(self, connection: Connection) -> None:
        stream = WebSocketStream(self.streams, self.transport, connection, self.deflate)
        self.transport.set_protocol(stream)
        stream.open(self.query.get("since"))
        if self.rest:
            stream.data_received(self.rest)


def _lines(headers: Sequence[Header]) -> bytes:
    return b"".join([b"%b: %b\r\n" % field for field in headers])


def _refuse_websocket(transport: asyncio.Transport, error: ChannelstreamError) -> None:
    """Close a socket right after its handshake, with the code that tells the client what to do."""
    codes = {Unavailable: CloseCode.RESTARTING, Moved: CloseCode.RESTARTING, Replaced: CloseCode.REPLACED}
    code = codes.get(type(error), CloseCode.UNKNOWN_CONNECTION)
    transport.write(close_frame(code, error.message))
    transport.close()


def protocol_for(streams: Streams, max_sockets: int) -> type[StreamingHttp]:
    """Return the protocol class for one server; uvicorn makes an object of it for each accepted socket.

    Args:
        max_sockets: open sockets, above which new ones are answered 503.
    """
    return type("BoundStreamingHttp", (StreamingHttp,), {"streams": streams, "max_sockets": max_sockets})
