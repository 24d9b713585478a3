"""Moves the sockets of streams out of HTTP.

The socket of a WebSocket or an event stream leaves HTTP after the head of its request: an idle stream costs neither a
task nor an HTTP reader. If another node holds the connection, it is fetched first. In the meantime the client may
disconnect, so that is checked before the stream opens.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import NamedTuple

from channelstream.core.connection import Connection
from channelstream.core.headers import header
from channelstream.core.http_head import RequestHead, offered
from channelstream.core.query import read_query
from channelstream.errors import BadRequest, ChannelstreamError, Internal
from channelstream.http.answers import lines
from channelstream.http.closing import close_within
from channelstream.http.router import OnRefusal
from channelstream.http.takeover import Detachable, TakeOver
from channelstream.transports.admission import Admission
from channelstream.transports.entrances import Drawn, Entrance, OpeningRequest
from channelstream.transports.first_text import FirstText
from channelstream.transports.sse import SSEStream
from channelstream.transports.streams import Streams
from channelstream.transports.token_admission import Admitted, Asked
from channelstream.transports.websocket import CLOSE_TIMEOUT_S, WebSocketStream
from channelstream.wire.deflate import negotiate
from channelstream.wire.framing import Framing
from channelstream.wire.handshake import Handshake, accept

SSE_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-store\r\n"
    b"x-accel-buffering: no\r\nx-content-type-options: nosniff\r\nconnection: close\r\n"
)


logger = logging.getLogger(__name__)


class SocketOpener:
    """Returns what takes over the socket of a request for a stream (`http.router.Opener`)."""

    def __init__(
        self, streams: Streams, admission: Admission, on_refusal: OnRefusal = lambda *refusal: None
    ) -> None:
        """Create the opener of the streams of one application.

        Args:
            on_refusal: called for each WebSocket that is refused after its handshake; not for one whose client is silent, or
                breaks the protocol, before its stream is open.
        """
        self._streams = streams
        self._admission = admission
        self._on_refusal = on_refusal

    def websocket(self, entrance: Entrance, head: RequestHead) -> TakeOver | None:
        """Return what takes the socket over; None if the request does not ask for a WebSocket.

        Raises:
            BadHandshake, BadRequest, NotAcceptable: the request is faulty, or comes over plain HTTP.
            Overloaded: the process sheds load.
        """
        if b"websocket" not in offered(head):
            return None
        if head.body_bytes != 0:
            # The next bytes could be read as a body or as frames.
            raise BadRequest("A request for a WebSocket has no body.")
        handshake = accept(head)
        self._streams.policy.check_transport(head)
        entrance.check(head)
        return TakeOver(self._open_websocket, entrance, handshake, head)

    def _open_websocket(
        self, entrance: Entrance, handshake: Handshake, head: RequestHead, http: Detachable
    ) -> None:
        transport, rest = http.release()
        deflate = negotiate(handshake.offers) if self._compresses(entrance) else None
        answer = handshake.response(deflate)
        framing = Framing.WEBSOCKET if deflate is None else Framing.DEFLATE
        request = OpeningRequest(head, read_query(head.query), framing)
        opening = _Opening(self._streams, entrance, transport, request, answer, rest, self._report)
        try:
            self._streams.count_opening(head)
            entrance.check_page(request)
            if entrance.takes_tokens and self._opens_by_token(opening):
                return
            connection = entrance.connection(request)
            if connection is None:
                transport.write(answer)
                opening = opening._replace(answer=b"")
                transport.pause_reading()
                self._streams.run(opening.fetch(partial(entrance.fetch, request)), has_socket=True)
            else:
                opening.open(connection)
        except ChannelstreamError as error:
            opening.refuse(error)
        except Exception:
            opening.fail()

    def _report(self, entrance: Entrance, head: RequestHead, error: ChannelstreamError) -> None:
        self._on_refusal(head.method, entrance.paths[0], error, self._streams.policy.client(head))

    def _opens_by_token(self, opening: "_Opening") -> bool:
        """Begin to open a stream by the token of its request, or else of the first text; return whether one opens it."""
        head, query, _ = opening.request
        token = self._admission.tokens.token_of(head, query)
        if token is not None:
            self._admit(opening, token)
        elif "conn_id" not in query and self._admission.tokens.is_open:
            self._wait_for_token(opening)
        else:
            return False
        return True

    def _admit(self, opening: "_Opening", token: str) -> None:
        """Open a stream by the token of its request."""
        head, query, _ = opening.request
        asked = Asked(token, query.get("conn_id", ""), query.get("since", ""))
        opening.transport.write(opening.answer)
        opening.transport.pause_reading()
        admit = partial(self._admission.tokens.admit, asked, head)
        self._streams.run(opening._replace(answer=b"").fetch(admit), has_socket=True)

    def _wait_for_token(self, opening: "_Opening") -> None:
        """Wait for the first text."""
        transport, head = opening.transport, opening.request.head
        transport.write(opening.answer)
        is_deflated = opening.request.framing is Framing.DEFLATE
        report = partial(self._report, opening.entrance, head)
        waiting = FirstText(self._streams, self._admission.tokens, transport, head, is_deflated, report)
        transport.set_protocol(waiting)
        if opening.rest:
            waiting.data_received(opening.rest)

    def _compresses(self, entrance: Entrance) -> bool:
        streams = self._streams
        return streams.settings.compression and streams.protocols.is_spoken(
            entrance.protocol, Framing.DEFLATE
        )

    def event_stream(self, head: RequestHead) -> TakeOver:
        """Return what opens an event stream; if it is refused, the handler of the route says why.

        Raises:
            Overloaded: the process sheds load.
            TooManyRequests: its address opens too many streams.
        """
        self._admission.check_load(head)
        self._streams.count_opening(head)
        return TakeOver(self._open_event_stream, head)

    def _open_event_stream(self, head: RequestHead, http: Detachable) -> None:
        query = read_query(head.query)
        opening = _EventStreamOpening(self._streams, self._admission, http, head, query)
        try:
            self._streams.policy.check_transport(head)
            self._admission.policy(head.query).check_origin(head.headers)
            token = self._admission.tokens.token_of(head, query)
            connection = self._admission.connection(query, Framing.SSE) if token is None else None
        except ChannelstreamError:
            http.serve()
            return
        if connection is not None:
            opening.open(connection)
            return
        find: Callable[[], Awaitable[Connection | Admitted]]
        if token is None:
            find = partial(self._admission.take_over, query, Framing.SSE)
        else:
            # The position in `Last-Event-ID` is that of an older stream of the same connection.
            asked = Asked(token, query.get("conn_id", ""), _since(head, query) or "")
            find = partial(self._admission.tokens.admit, asked, head)
        self._streams.run(opening.fetch(find))


def _since(head: RequestHead, query: dict[str, str]) -> str | None:
    """Return the position in the request of an event stream."""
    last_id = header(head.headers, b"last-event-id")
    # An empty one counts as absent (HTML Living Standard 9.2.3): the position in the query must not be ignored for it.
    return last_id.decode("latin-1") if last_id else query.get("since")


class _EventStreamOpening(NamedTuple):
    """An event stream between its request and its beginning.

    Attributes:
        http: the connection of the request, whose socket is still in HTTP.
    """

    streams: Streams
    admission: Admission
    http: Detachable
    head: RequestHead
    query: dict[str, str]

    async def fetch(self, find: Callable[[], Awaitable[Connection | Admitted]]) -> None:
        """Fetch the connection from another node, or make it, then open the stream."""
        try:
            found = await find()
        except ChannelstreamError:
            self.http.serve()
        except Exception:
            logger.exception("the connection of an event stream could not be fetched")
            self.http.fail()
        else:
            self.open(found)

    def open(self, found: Connection | Admitted) -> None:
        if not self.http.is_open:
            return
        transport, rest = self.http.release()
        try:
            self._begin(transport, found, rest)
        except Exception:
            logger.exception("an event stream could not be opened")
            transport.abort()

    def _begin(self, transport: asyncio.Transport, found: Connection | Admitted, rest: bytes) -> None:
        """Open the stream on a socket that has left HTTP.

        Args:
            rest: bytes that the client has sent after its request.
        """
        answer = SSE_HEAD + lines(self.admission.cors(self.head)) + b"\r\n"
        connection = found.connection if isinstance(found, Admitted) else found
        stream, since = SSEStream(self.streams, transport, connection), _since(self.head, self.query)
        if isinstance(found, Admitted):
            stream.admit(found.client, found.greeting)
            since = since or ""
        stream.begin(self.head, since, answer, rest)


class _Opening(NamedTuple):
    """A WebSocket between its handshake and its stream.

    Attributes:
        answer: that to its handshake; empty if it is written.
        rest: bytes that the client has sent after its handshake.
        report: called when it is refused.
    """

    streams: Streams
    entrance: Entrance
    transport: asyncio.Transport
    request: OpeningRequest
    answer: bytes
    rest: bytes
    report: Callable[[Entrance, RequestHead, ChannelstreamError], None]

    async def fetch(self, find: Callable[[], Awaitable[Connection | Admitted | Drawn]]) -> None:
        """Open the stream of a connection that is not here yet; reading is paused until then."""
        try:
            connection = await find()
            if not self.transport.is_closing():
                self.open(connection)
                self.transport.resume_reading()
        except ChannelstreamError as error:
            self.refuse(error)
        except Exception:
            self.fail()

    def open(self, found: Connection | Admitted | Drawn) -> None:
        deflate = self.request.framing is Framing.DEFLATE
        connection = found if isinstance(found, Connection) else found.connection
        state = found.state if isinstance(found, Drawn) else b""
        stream = WebSocketStream(self.streams, self.transport, connection, deflate, state)
        since = None if isinstance(found, Drawn) else self.request.query.get("since")
        if isinstance(found, Admitted):
            stream.admit(found.client, found.greeting)
            since = since or ""
        stream.begin(self.request.head, since, self.answer, self.rest)

    def fail(self) -> None:
        """Close the socket after its handshake for the error in progress, which is a fault of the server."""
        logger.exception("a WebSocket could not be opened")
        self.refuse(Internal())

    def refuse(self, error: ChannelstreamError) -> None:
        """Close the socket after its handshake, as the protocol says the close code of the error."""
        transport = self.transport
        if transport.is_closing():
            return  # Its client has gone meanwhile, and the loop may refuse writes.
        self.report(self.entrance, self.request.head, error)
        closing = self.streams.protocols.closing_of(self.entrance.protocol, error.refusal_code, error.message)
        transport.write(self.answer + closing)
        # This socket is in no count of open ones any more, so it must not wait for a client that reads nothing.
        close_within(transport, CLOSE_TIMEOUT_S)
