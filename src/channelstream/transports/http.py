"""uvicorn's HTTP protocol, bounded, and able to hand its socket over to a WebSocket or an event stream.

Streams do not pass through ASGI: after the head of the request the socket belongs to a small protocol of ours, so that an
idle stream costs neither a task nor the HTTP parser.
"""

import asyncio
from typing import Any, ClassVar

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from channelstream.core.handshake import accept
from channelstream.core.query import read_query
from channelstream.core.websocket import close_frame
from channelstream.errors import ChannelstreamError, CloseCode, Unavailable
from channelstream.transports.sse import SSEStream
from channelstream.transports.streams import Streams
from channelstream.transports.websocket import WebSocketStream

WEBSOCKET_PATH = "/ws"
SSE_PATH = "/sse"
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

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._head_left = self.streams.settings.head_bytes
        self._head_timer: asyncio.TimerHandle | None = None
        self._event_stream: RequestResponseCycle | None = None

    # -- the bounds of a head

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self._expect_head()
        if len(self.connections) + self.streams.open > self.max_sockets:
            self._refuse(503, b"Too many connections; try again later.")

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_complete()
        super().connection_lost(exc)

    def _expect_head(self) -> None:
        self._head_left = self.streams.settings.head_bytes
        self._head_timer = self.loop.call_later(
            self.streams.settings.head_timeout_s, self._refuse, 408, b"The request took too long."
        )

    def _head_is_complete(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse(self, status: int, text: bytes) -> None:
        self._head_is_complete()
        if not self.transport.is_closing():
            head = (
                b"HTTP/1.1 %d \r\ncontent-type: text/plain\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head % (status, len(text)) + text)
            self.transport.close()

    # -- reading

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing() or self.parser is None:
            return
        self._unset_keepalive_if_required()
        if self._head_timer is None and (self.cycle is None or self.cycle.response_complete):
            self._expect_head()
        if self._head_timer is not None:
            self._head_left -= len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self._should_upgrade():
                self._open_websocket(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._refuse(400, b"Invalid HTTP request.")
        else:
            if self._event_stream is not None:
                self._open_event_stream()
            elif self._head_timer is not None and self._head_left < 0:
                self._refuse(431, b"The head of the request is too long.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._head_timer is None:  # A pipelined request: its head begins while an older one is answered.
            self._expect_head()

    def on_headers_complete(self) -> None:
        self._head_is_complete()
        super().on_headers_complete()

    def _should_upgrade(self) -> bool:
        """Say whether the request asks for the WebSocket endpoint; any other upgrade is ignored (RFC 9110, 7.8)."""
        return (
            self._get_upgrade() == b"websocket"
            and self.url.partition(b"?")[0] == WEBSOCKET_PATH.encode()
            and self.parser.get_method() == b"GET"
        )

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        if self._wants_event_stream(cycle.scope):
            self._event_stream = cycle
        else:
            super()._start_asgi_task(cycle, app)

    def _wants_event_stream(self, scope: Any) -> bool:
        """Say whether this request is an event stream to open; one that has to be refused is answered by the app."""
        if scope["path"] != SSE_PATH or scope["method"] != "GET":
            return False
        try:
            self._admit(scope)
        except ChannelstreamError:
            return False
        return True

    def _admit(self, scope: Any) -> Any:
        self.streams.policy.check_transport(scope)
        self.streams.policy.check_origin(scope["headers"])
        return self.streams.connection(read_query(scope["query_string"]))

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
            self._refuse(error.http_status, error.message.encode())
            return
        transport = self._let_go()
        transport.write(handshake.response())
        parameters = read_query(query)
        try:
            connection = self.streams.connection(parameters)
        except ChannelstreamError as error:
            _refuse_websocket(transport, error)
            return
        stream = WebSocketStream(self.streams, transport, connection)
        transport.set_protocol(stream)
        stream.open(parameters.get("since"))
        if rest:
            stream.data_received(rest)

    def _open_event_stream(self) -> None:
        cycle, self._event_stream = self._event_stream, None
        assert cycle is not None  # noqa: S101 - the only caller has looked
        scope: Any = cycle.scope
        connection = self._admit(scope)
        parameters = read_query(scope["query_string"])
        last_id = next((value for name, value in scope["headers"] if name == b"last-event-id"), None)
        since = parameters.get("since") if last_id is None else last_id.decode("latin-1")
        transport = self._let_go()
        cors = b"".join(b"%b: %b\r\n" % line for line in self.streams.policy.cors(scope["headers"]))
        transport.write(SSE_HEAD + cors + b"\r\n")
        stream = SSEStream(self.streams, transport, connection)
        transport.set_protocol(stream)
        stream.open(since)

    def _let_go(self) -> asyncio.Transport:
        """Leave the socket to another protocol, and nothing behind that only the garbage collector could free."""
        transport = self.transport
        self._unset_keepalive_if_required()
        self._head_is_complete()
        self.connections.discard(self)
        self.parser = self.cycle = self.flow = self.scope = None  # type: ignore[assignment]
        self.headers = []
        return transport


def _refuse_websocket(transport: asyncio.Transport, error: ChannelstreamError) -> None:
    """Close a socket right after its handshake, with the code that tells the client what to do."""
    code = CloseCode.RESTARTING if isinstance(error, Unavailable) else CloseCode.UNKNOWN_CONNECTION
    transport.write(close_frame(code, error.message))
    transport.close()


def protocol_for(streams: Streams, max_sockets: int) -> type[StreamingHttp]:
    """Return the protocol class for one server; uvicorn makes an object of it for each accepted socket.

    Args:
        max_sockets: open sockets, above which new ones are answered 503.
    """
    return type("BoundStreamingHttp", (StreamingHttp,), {"streams": streams, "max_sockets": max_sockets})
