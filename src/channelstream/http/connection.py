"""One accepted socket while it speaks HTTP: a request, its answer, the next request.

Invariant: at most one request is in progress, and the memory of a socket is bounded whatever its client does. The
next request is read when the answer before it has been written. A client that sends requests ahead (pipelining) has
at most one packet read; then reading stops until the answer is out. To parse ahead would need one more bound.

What it waits for, how long, and how it lingers before it closes, is in `waiting.py`.

A request may also leave HTTP: `release` hands the socket to a stream, and this object keeps no reference that only
the garbage collector could free, since idle streams are many.
"""

import asyncio
import logging

from channelstream.core.http_head import RequestHead
from channelstream.core.http_reader import RequestReader
from channelstream.errors import ChannelstreamError, Internal, Unavailable
from channelstream.http.answers import last_answer
from channelstream.http.closing import close_transport
from channelstream.http.exchange import HttpExchange
from channelstream.http.inbound import Inbound
from channelstream.http.line import is_tls, peer_of
from channelstream.http.moving import descriptor_of, drop_descriptor, is_movable
from channelstream.http.outbound import Outbound
from channelstream.http.phase import CLOSED, EXCHANGE, HEAD, IDLE, LINGER, Work
from channelstream.http.request import Request
from channelstream.http.router import Handler
from channelstream.http.shared import SPARE_SOCKETS, HttpServer, Socket
from channelstream.http.takeover import TakeOver
from channelstream.http.waiting import Waiting

logger = logging.getLogger(__name__)


class HttpConnection(asyncio.Protocol):
    """An accepted socket."""

    __slots__ = (
        "_exchange",
        "_has_ended",
        "_http_server",
        "_in",
        "_is_stopping",
        "_last",
        "_loop",
        "_out",
        "_predecessor",
        "_reader",
        "_received",
        "_request",
        "_transport",
        "_waiting",
        "access_log",
        "heads",
    )

    def __init__(
        self, http_server: HttpServer, predecessor: Socket | None = None, received: bytes | None = None
    ) -> None:
        """Create the protocol of a socket.

        Args:
            http_server: what all connections share.
            predecessor: the entry of this socket in `HttpServer` until now: its TLS handshake.
            received: what another process has received of the next request on this socket; None for a new socket.
        """
        self.access_log = http_server.settings.access_log
        self.heads = http_server.heads
        self._http_server = http_server
        self._predecessor = predecessor
        self._received = received
        self._exchange: HttpExchange | None = None
        self._request: Request | None = None
        self._last: tuple[HttpExchange, Request] | None = None
        """The last request, if it was answered at once, so that nobody else has it: the next one with this head uses the
        same objects. None if the head is not kept: what is read of one may be 25 times as long (measured)."""
        self._is_stopping = self._has_ended = False

    # -- the life of the socket

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        settings = self._http_server.settings
        self._in = Inbound(transport, self._loop)
        self._out = Outbound(transport, self._loop, settings.keep_alive_s)
        self._waiting = Waiting(transport, self._in, self._out, self._http_server)
        self._reader = RequestReader(settings.head_bytes, *peer_of(transport))
        if self._predecessor is not None:
            self._http_server.unregister(self._predecessor)
            self._predecessor = None
        self._http_server.register(self)
        if self._http_server.excess > 0:
            self._http_server.report_full()
            self.refuse(Unavailable("The server has too many connections; try again later."))
        elif self._received is None:
            self._waiting.for_head(self)
        else:
            self._continue_from(self._received)

    def connection_lost(self, exc: Exception | None) -> None:
        self._waiting.end()
        self._out.stop_watching()
        self._out.resume()
        if self._exchange is not None:
            self._exchange.end()
        # They refer to each other, and the garbage collector runs rarely.
        self._exchange = self._request = self._last = None
        self._http_server.unregister(self)

    def eof_received(self) -> bool:
        """Keep the socket open if its client may wait for an answer: it has closed its own side only.

        Returns:
            Whether the socket stays open for writing; with TLS it never does.
        """
        self._in.take_turn(self._continue)
        self._has_ended = True
        exchange = self._in_progress
        if exchange is None or not exchange.is_whole:
            self.close()
            return False
        exchange.half_close()
        return not is_tls(self._transport)

    @property
    def _in_progress(self) -> HttpExchange | None:
        """The request in progress; None if there is none, or the connection is about to close."""
        return self._exchange if self._waiting.phase is EXCHANGE else None

    @property
    def is_open(self) -> bool:
        return self._waiting.phase is EXCHANGE and not self._transport.is_closing()

    def stop(self) -> None:
        """Close at once, or after the answer if a whole request is in progress."""
        self._is_stopping = True
        self._in.take_turn(self._continue)
        exchange = self._in_progress
        if exchange is None or exchange.is_answered or not exchange.is_whole:
            self.close()
        else:
            exchange.keep_alive = False

    def abort(self) -> None:
        self._transport.abort()

    # -- another process may take the socket over

    def hold(self) -> None:
        """Begin no further request, until `let_go`; a request in progress is read on until the server `holds_bodies`."""
        if self._exchange is None or self._exchange.is_whole or self._http_server.holds_bodies:
            self._in.hold()

    def let_go(self) -> None:
        """Read again after `hold`, also after `unread`."""
        self._in.let_go()
        if self._exchange is not None and not self._exchange.is_whole:
            self._in.take_later(self._continue)
        elif self._exchange is None and self._waiting.phase in (IDLE, HEAD):
            if self._waiting.phase is HEAD:
                self._waiting.for_head(self)
            self._proceed()

    @property
    def work(self) -> Work:
        """What is done for the client."""
        exchange = self._in_progress
        return Work.NONE if exchange is None else exchange.work

    @property
    def receiving(self) -> object | None:
        """The request that is being received, which equals no other one; None if none is."""
        return self._exchange if self.work is Work.RECEIVING else None

    def unread(self) -> tuple[int, bytes] | None:
        """Return the descriptor and the received bytes that are not read; None if no other process can take them over.

        No timer runs afterwards.
        """
        is_idle = self._exchange is None and self._waiting.phase in (IDLE, HEAD)
        if not is_idle or self._has_ended or self._is_stopping or not is_movable(self._transport):
            return None
        self._waiting.suspend()
        return descriptor_of(self._transport), self._reader.unread

    def leave(self) -> None:
        """Forget the socket, which is another process's, and close the descriptor without a word to the client."""
        transport, _ = self.release()
        drop_descriptor(transport)

    def _continue_from(self, received: bytes) -> None:
        """Read what another process has received, and then the socket."""
        self._received = b""
        self._waiting.phase = IDLE
        self._waiting.for_request(self)
        if received:
            self._reader.receive(received)
            # Not now: a pause of reading would have no effect, as uvloop reads from every new socket after this.
            self._in.take_later(self._continue)

    def release(self) -> tuple[asyncio.Transport, bytes]:
        """Return the socket, and the received bytes that are not read; nothing of it stays here."""
        self._waiting.end()
        self._out.stop_watching()
        self._exchange = self._request = self._last = None
        self._in.let_go()
        self._in.resume()
        self._http_server.unregister(self)
        return self._transport, self._reader.unread

    # -- what the client sends

    def data_received(self, data: bytes) -> None:
        phase, http_server = self._waiting.phase, self._http_server
        if phase is LINGER:
            self._waiting.discard(len(data), self)
        elif phase is not CLOSED:
            if http_server.is_crowded and not self._in.ask_for_turn(self._continue, http_server.inbound):
                self._reader.receive(data)
            elif phase is EXCHANGE or http_server.is_held or not self._begin_whole(data):
                self._reader.receive(data)
                self._proceed()

    def _continue(self) -> None:
        """Continue with what was received before, unless the connection is about to close."""
        if self._waiting.phase not in (LINGER, CLOSED):
            self._proceed()

    def _proceed(self) -> None:
        """Read to the end of the request in progress; once its answer is out, begin the next one.

        Not while the answer still fills the transport: a stream that took over a full one would get no
        `pause_writing`.
        """
        exchange = self._exchange
        try:
            if exchange is not None:
                if not exchange.is_done or self._out.is_full:
                    self._read_body(exchange)
                    if not exchange.is_done or self._out.is_full:
                        return
                self._exchange = self._request = None
            if self._http_server.is_held:
                self._waiting.phase = IDLE
                self._in.hold()
                return
            head = self._reader.head() if self._reader.has_more else None
            if head is not None:
                self._begin(head)
            else:
                self._wait_for_more()
        except ChannelstreamError as error:
            self.refuse(error)

    def _wait_for_more(self) -> None:
        """Wait for the next request, or for the rest of its head."""
        self._in.resume()
        if self._has_ended or self._is_stopping:
            self.close()
        elif self._reader.has_more:
            self._waiting.for_head(self)
        else:
            self._waiting.for_request(self)

    def _read_body(self, exchange: HttpExchange) -> None:
        """Read more of a body."""
        if not exchange.is_whole:
            if self._http_server.holds_bodies:
                return
            exchange.receive_body(self._reader.body(), self._reader.is_whole)
            if exchange.is_whole:
                self._waiting.received()
        if exchange.is_whole and self._http_server.is_held:
            self._in.hold()
        self._read_on(exchange)

    def _read_on(self, exchange: HttpExchange) -> None:
        """Read the socket only while there is room: for the body, or for the beginning of the next request."""
        reader = self._reader
        if reader.has_more if exchange.is_whole else exchange.is_full or reader.has_stopped:
            self._in.pause()
        else:
            self._in.resume()
        if reader.has_stopped and not exchange.is_full:
            self._in.take_later(self._continue)

    def _begin(self, head: RequestHead) -> None:
        """Begin a request whose head is complete; the body of most has come with it."""
        reader = self._reader
        self._waiting.phase = EXCHANGE
        self._last = None
        self._exchange = exchange = HttpExchange(self, self._out, head, reader.is_whole)
        self._request = request = self._http_server.router.request(head, exchange)
        if not exchange.is_whole:
            exchange.receive_body(reader.body(), reader.is_whole)
        if exchange.is_whole:
            self._waiting.received()
        else:
            self._waiting.for_body(self)
        self._read_on(exchange)
        self._dispatch(exchange, request)

    def _begin_whole(self, data: bytes) -> bool:
        """Begin a request that is exactly these bytes, as most are; return False for others, which are left to `_begin`.

        Its body is whole, so that no timer is started, and reading is neither paused nor resumed. A request with the head
        of the one before it uses the objects of that one (`_last`).
        """
        last, self._last = self._last, None
        try:
            taken = self._reader.take(data)
            if taken is None:
                return False
            head, body = taken
            if self._waiting.phase is HEAD:
                self._waiting.received()
            self._waiting.phase = EXCHANGE
            if last is not None and self._reader.has_repeated:
                self._last = last
                exchange, request = last
                exchange.again(head, body)
                request.again(head)
            else:
                exchange = HttpExchange(self, self._out, head, True, body)
                request = self._http_server.router.request(head, exchange)
            self._exchange, self._request = exchange, request
            if request.handler is None:
                self._dispatch(exchange, request)
            else:
                self._answer(exchange, request.handler, request)
        except ChannelstreamError as error:
            self.refuse(error)
        return True

    def _dispatch(self, exchange: HttpExchange, request: Request) -> None:
        """Let a request be served by who is found for it.

        Raises:
            ChannelstreamError: the connection must be closed after this refusal.
        """
        try:
            match = self._http_server.router.match(request)
            if isinstance(match, TakeOver):
                match(self)
                return
        except ChannelstreamError:
            raise
        except Exception:
            logger.exception("a request could not be dispatched: %s %s", request.method, request.path)
            self.fail()
            return
        self._answer(exchange, match, request)

    def serve(self) -> None:
        """Let the handler of the route answer the request in progress."""
        exchange, request = self._exchange, self._request
        if exchange is not None and request is not None and self.is_open:
            self._answer(exchange, self._http_server.router.handler(request), request)

    def _answer(self, exchange: HttpExchange, handler: Handler, request: Request) -> None:
        """Let a handler answer; what it has to wait for is a task."""
        rest = exchange.serve(handler, request)
        if rest is not None:
            self._last = None
            self._http_server.start(rest, self._loop)
        elif self._last is None and self._waiting.phase is IDLE and self._reader.keeps_head:
            self._last = exchange, request

    # -- the answer

    def begun(self, status: int) -> None:
        request, answers = self._request, self._http_server.answers
        key = ("" if request is None else request.route, status)
        answers[key] = answers.get(key, 0) + 1

    def answered(self) -> None:
        """Continue after an answer: with the next request, or by closing."""
        exchange = self._exchange
        if exchange is None or self._waiting.phase is not EXCHANGE:
            return
        if not exchange.keep_alive or self._is_stopping:
            self._close_gently(is_whole=exchange.is_whole)
        elif self._reader.has_more:
            # In another turn: a client may have sent very many requests ahead.
            self._in.take_later(self._continue)
        elif exchange.is_whole and not self._out.is_full:
            self._exchange = self._request = None
            self._wait_for_more()
        else:
            self._proceed()

    def fail(self) -> None:
        """Answer with 500, or close if an answer has begun already."""
        exchange = self._exchange
        if exchange is None or exchange.is_abandoned or exchange.is_answered:
            return
        if exchange.has_started or exchange.is_half_closed:
            self.close()
        else:
            self.refuse(Internal())

    def body_consumed(self) -> None:
        if self._reader.has_stopped:
            self._in.take_later(self._continue)
        else:
            self._in.resume()

    def pause_writing(self) -> None:
        self._out.pause()

    def resume_writing(self) -> None:
        self._out.resume()
        exchange = self._exchange
        if exchange is not None and exchange.is_answered and self._waiting.phase is EXCHANGE:
            self._proceed()

    def refuse(self, error: ChannelstreamError) -> None:
        """Answer with an error and close; if an answer has begun, only close."""
        exchange = self._exchange
        if exchange is not None:
            exchange.end()
        if self._transport.is_closing() or self._waiting.phase in (LINGER, CLOSED):
            return
        if exchange is not None and exchange.is_answered:
            # A second answer would be taken for that of the next request.
            self._close_gently(is_whole=False)
            return
        if exchange is not None and exchange.has_started:
            self.close()
            return
        self.begun(error.http_status)
        self._out.write(last_answer(self._http_server.router.refuse(self._request, error), self.heads.date()))
        self._close_gently(is_whole=False)

    # -- closing

    def _close_gently(self, is_whole: bool) -> None:
        """Close after an answer; linger before if the request was not read to its end."""
        if is_whole or self._has_ended or self._is_stopping or self._http_server.excess > SPARE_SOCKETS:
            self.close()
            return
        self._waiting.linger(self)
        self._in.resume()

    def close(self) -> None:
        self._waiting.end()
        if self._exchange is not None and not self._exchange.is_answered:
            self._exchange.end()
        close_transport(self._transport)
        self._out.watch()
