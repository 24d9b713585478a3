"""One accepted socket while it speaks HTTP: a request, its answer, the next request.

Invariant: at most one request is in progress, and the memory of a socket is bounded whatever its client does. The
next request is read when the answer before it has been written. A client that sends requests ahead (pipelining) has
at most one packet read; then reading stops until the answer is out. To parse ahead would need a bound of its own for
requests whose answers no client reads.

Every wait has a bound, by its phase (`Phase`): for a head, for a body, for the next request, and for a client that
reads nothing of its answer. An idle connection is closed only if nothing of a request has arrived. The loop may not
have read yet what the kernel already holds, so the socket is checked for it (`close_if_idle`): a request that crosses
with the close would get a reset as answer. A head or a body is late only if it is not there after the loop has read
once more (`time_is_up`): where very many clients come back at once, the loop is behind by longer than they may take.

An answer that closes the connection before the whole request was read would be lost, since the kernel resets a socket
that is closed with unread bytes, and the reset overtakes the answer. So the connection lingers (`Phase.LINGER`): it
closes its own side, and reads and discards for `LINGER_S` (RFC 9112, 9.6).

A request may also leave HTTP: `release` hands the socket to a stream, and this object keeps no reference that only
the garbage collector could free, since idle streams are many.
"""

import asyncio
import logging
from enum import Enum, auto
from typing import Any, cast

from channelstream.core.http_head import RequestHead
from channelstream.core.http_reader import RequestReader
from channelstream.core.policy import Address, Header
from channelstream.errors import ChannelstreamError, Internal, TimedOut, Unavailable
from channelstream.http.answers import CLOSE, lines, status_line
from channelstream.http.closing import close_transport, is_tls
from channelstream.http.eager import run_eagerly
from channelstream.http.exchange import HttpExchange
from channelstream.http.idle import IdleTimer, has_unread
from channelstream.http.line import Line, ack_progress
from channelstream.http.request import Request
from channelstream.http.response import refusal
from channelstream.http.router import Handler
from channelstream.http.shared import SPARE_SOCKETS, HttpServer, Socket
from channelstream.http.takeover import TakeOver
from channelstream.http.unread import UnreadAnswer

LINGER_S = 2.0
LINGER_BYTES = 16_777_216
"""How long, and how much, a client may still send after an answer that closes the connection; it is discarded."""

READ_S = 0.001
"""In this time the loop reads what the kernel holds, in seconds."""

logger = logging.getLogger(__name__)


class Phase(Enum):
    """The phase of a connection, which decides what it waits for."""

    IDLE = auto()
    """Between two requests; closed after `keep_alive_s`."""
    HEAD = auto()
    """Before the first request, or inside a head; refused with 408 after `head_timeout_s`."""
    EXCHANGE = auto()
    """A request is in progress; its body has `body_timeout_s`."""
    LINGER = auto()
    """The last answer has been written; what the client still sends is discarded for `LINGER_S`."""
    CLOSED = auto()


class HttpConnection(asyncio.Protocol):
    """An accepted socket."""

    __slots__ = (
        "_continuation",
        "_drained",
        "_exchange",
        "_has_ended",
        "_headers",
        "_http_server",
        "_idle",
        "_is_paused",
        "_is_stopping",
        "_linger_left",
        "_loop",
        "_phase",
        "_predecessor",
        "_reader",
        "_request",
        "_timer",
        "_transport",
        "_unread",
        "access_log",
        "date",
        "is_full",
        "write",
    )

    def __init__(self, http_server: HttpServer, predecessor: Socket | None = None) -> None:
        """Create the protocol of a socket.

        Args:
            http_server: the state that all connections share.
            predecessor: the entry of this socket in `HttpServer` until now: its TLS handshake.
        """
        self.access_log = http_server.settings.access_log
        self.date = http_server.date
        self.is_full = False
        self._http_server = http_server
        self._predecessor = predecessor
        self._phase = Phase.HEAD
        self._exchange: HttpExchange | None = None
        self._request: Request | None = None
        self._headers: list[Header] = []
        self._timer: asyncio.TimerHandle | None = None
        self._continuation: asyncio.Handle | None = None
        self._unread: UnreadAnswer | None = None
        self._drained: asyncio.Event | None = None
        self._is_paused = self._is_stopping = self._has_ended = False
        self._linger_left = LINGER_BYTES

    # -- the life of the socket

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self.write = transport.write
        self._loop = asyncio.get_running_loop()
        settings = self._http_server.settings
        self._idle = IdleTimer(self._loop, settings.keep_alive_s)
        client, scheme = (
            _address(transport.get_extra_info("peername")),
            "https" if is_tls(transport) else "http",
        )
        self._reader = RequestReader(settings.head_bytes, client, scheme)
        if self._predecessor is not None:
            self._http_server.unregister(self._predecessor)
        self._http_server.register(self)
        if self._http_server.excess > 0:
            self._refuse(Unavailable("The server has too many connections; try again later."))
        else:
            self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._enter_closed()
        self._stop_unread_timer()
        self._wake_writers()
        if self._exchange is not None:
            self._exchange.end()
            # The two refer to each other, and the garbage collector runs rarely.
            self._exchange = self._request = None
        self._http_server.unregister(self)

    def eof_received(self) -> bool:
        """Keep the socket open if its client may wait for an answer: it has closed its own side only.

        Returns:
            Whether the socket stays open for writing; with TLS it never does.
        """
        self._has_ended = True
        exchange = self._exchange
        if exchange is None or not exchange.is_whole or self._phase is not Phase.EXCHANGE:
            self._close()
            return False
        exchange.half_close()
        return not is_tls(self._transport)

    @property
    def is_open(self) -> bool:
        return self._phase is Phase.EXCHANGE and not self._transport.is_closing()

    def stop(self) -> None:
        """Close at once, or after the answer if a whole request is in progress."""
        self._is_stopping = True
        exchange = self._exchange if self._phase is Phase.EXCHANGE else None
        if exchange is None or exchange.is_answered or not exchange.is_whole:
            self._close()
        else:
            exchange.keep_alive = False

    def abort(self) -> None:
        self._transport.abort()

    def release(self) -> tuple[asyncio.Transport, bytes]:
        """Return the socket, and the received bytes that are not read; nothing of it stays here."""
        self._enter_closed()
        self._stop_unread_timer()
        self._exchange = self._request = None
        self._headers = []
        self._resume_reading()
        self._http_server.unregister(self)
        return self._transport, self._reader.take_rest()

    # -- what the client sends

    def data_received(self, data: bytes) -> None:
        if self._phase is Phase.LINGER:
            self._linger_left -= len(data)
            if self._linger_left < 0:
                self._close()
        elif self._phase is not Phase.CLOSED:
            self._reader.receive(data)
            self._proceed()

    def _proceed(self) -> None:
        try:
            self._read_requests()
        except ChannelstreamError as error:
            self._refuse(error)

    def _read_requests(self) -> None:
        """Read to the end of the request in progress; once its answer is out, begin the next one.

        Not while the answer still fills the transport: a stream that took over a full one would get no
        `pause_writing`.

        Raises:
            ChannelstreamError: the client broke the protocol.
        """
        exchange = self._exchange
        if exchange is not None:
            self._read_body(exchange)
            if not (exchange.is_answered and exchange.is_whole) or self.is_full:
                return
            self._exchange = self._request = None
        head = self._reader.head()
        if head is not None:
            self._begin(head)
            return
        self._resume_reading()
        if self._has_ended or self._is_stopping:
            self._close()
        elif self._reader.has_more:
            self._wait_for_head()
        else:
            self._wait_for_request()

    def _read_body(self, exchange: HttpExchange) -> None:
        reader = self._reader
        if not exchange.is_whole:
            part = reader.body()
            exchange.receive_body(part, reader.is_whole)
            if reader.is_whole:
                self._stop_timer()
            elif reader.has_stopped and not exchange.is_full:
                self._continue_later()
        has_next = exchange.is_whole and reader.has_more
        if exchange.is_full or reader.has_stopped or has_next:
            self._pause_reading()
        else:
            self._resume_reading()

    def _continue_later(self) -> None:
        """Continue with the body, or with the next request, in the next loop turn."""
        if self._continuation is None:
            self._continuation = self._loop.call_soon(self._continue)

    def _continue(self) -> None:
        self._continuation = None
        if self._phase is Phase.EXCHANGE:
            self._proceed()

    def _begin(self, head: RequestHead) -> None:
        """Begin a request whose head is complete."""
        self._phase = Phase.EXCHANGE
        self._stop_timer()
        self._headers = head.headers
        self._exchange = exchange = HttpExchange(self, head)
        self._request = request = self._http_server.router.request(head, exchange)
        exchange.is_whole = self._reader.is_whole
        self._read_body(exchange)
        if not exchange.is_whole:
            self._start_timer(
                self._http_server.settings.body_timeout_s, TimedOut("The body of the request took too long.")
            )
        self._dispatch(exchange, request)

    def _dispatch(self, exchange: HttpExchange, request: Request) -> None:
        """Find who serves a request.

        Raises:
            ChannelstreamError: the connection must be closed after this refusal.
        """
        try:
            match = self._http_server.router.match(request)
            if isinstance(match, TakeOver):
                match.open(self)
                return
        except ChannelstreamError:
            raise
        except Exception:
            logger.exception("a request could not be dispatched: %s %s", request.method, request.path)
            self.fail()
            return
        self._run(exchange, request, match)

    def serve(self) -> None:
        """Let the handler of the route answer the request in progress."""
        exchange, request = self._exchange, self._request
        if exchange is not None and request is not None and self.is_open:
            self._run(exchange, request, self._http_server.router.handler(request))

    def _run(self, exchange: HttpExchange, request: Request, handler: Handler) -> None:
        task = run_eagerly(exchange.run(handler, request), self._loop)
        if task is not None:
            self._http_server.run(task)

    def line(self) -> Line:
        return Line(self._transport)

    # -- the answer

    def answered(self) -> None:
        """Continue after an answer: with the next request, or by closing."""
        exchange = self._exchange
        if exchange is None or self._phase is not Phase.EXCHANGE:
            return
        if not exchange.keep_alive or self._is_stopping:
            self._close_gently(is_whole=exchange.is_whole)
        elif self._reader.has_more:
            # A client may have sent very many requests ahead: each has a turn of the loop for itself.
            self._continue_later()
        else:
            self._proceed()

    def fail(self) -> None:
        """Answer with 500, or close if an answer has begun already."""
        exchange = self._exchange
        if exchange is None or exchange.is_abandoned or exchange.is_answered:
            return
        if exchange.has_started or exchange.is_half_closed:
            self._close()
        else:
            self._refuse(Internal())

    def body_consumed(self) -> None:
        if self._reader.has_stopped:
            self._continue_later()
        else:
            self._resume_reading()

    def pause_writing(self) -> None:
        self.is_full = True
        self._watch_unread()

    def resume_writing(self) -> None:
        self._wake_writers()
        exchange = self._exchange
        if exchange is not None and exchange.is_answered and self._phase is Phase.EXCHANGE:
            self._proceed()

    async def drained(self) -> None:
        """Wait until the transport has room, or is closed."""
        while self.is_full:
            if self._drained is None:
                self._drained = asyncio.Event()
            await self._drained.wait()

    def _wake_writers(self) -> None:
        self.is_full = False
        if self._drained is not None:
            self._drained.set()
            self._drained = None

    def _refuse(self, error: ChannelstreamError) -> None:
        """Answer with an error and close; if an answer has begun, only close."""
        exchange = self._exchange
        if exchange is not None:
            exchange.end()
        if self._transport.is_closing() or self._phase in (Phase.LINGER, Phase.CLOSED):
            return
        if exchange is not None and exchange.is_answered:
            # A second answer would be taken for that of the next request.
            self._close_gently(is_whole=False)
            return
        if exchange is not None and exchange.has_started:
            self._close()
            return
        answer = refusal(error, self._http_server.router.policy.cors(self._headers))
        fields = answer.fields()
        close = b"" if (b"connection", b"close") in fields else CLOSE
        head = b"%b%b%b%b\r\n" % (status_line(answer.status), self.date(), lines(fields), close)
        self.write(head + cast(bytes, answer.body))
        self._close_gently(is_whole=False)

    # -- closing

    def _close_gently(self, is_whole: bool) -> None:
        """Close after an answer.

        Args:
            is_whole: the request was read to its end; if not, the connection lingers (see the head of this file).
        """
        if is_whole or self._has_ended or self._is_stopping or self._http_server.excess > SPARE_SOCKETS:
            self._close()
            return
        self._phase = Phase.LINGER
        self._stop_timer()
        self._timer = self._loop.call_later(LINGER_S, self._close)
        self._resume_reading()
        self._watch_unread()
        if self._transport.can_write_eof():
            self._transport.write_eof()

    def _close(self) -> None:
        self._enter_closed()
        if self._exchange is not None and not self._exchange.is_answered:
            self._exchange.end()
        close_transport(self._transport)
        self._watch_unread()

    def _enter_closed(self) -> None:
        self._phase = Phase.CLOSED
        self._stop_timer()
        self._idle.stop()

    # -- waiting

    def _wait_for_head(self) -> None:
        """Start the timer of a head: at its first byte, or for the first head when the socket is accepted."""
        if self._timer is None or self._phase is not Phase.HEAD:
            self._phase = Phase.HEAD
            self._start_timer(
                self._http_server.settings.head_timeout_s, TimedOut("The head of the request took too long.")
            )

    def _wait_for_request(self) -> None:
        """Wait for the next request; before the first one the timer of the head runs."""
        if self._phase is not Phase.HEAD:
            self._phase = Phase.IDLE
            self._idle.start(self.close_if_idle)

    def close_if_idle(self) -> None:
        """Close an idle connection, unless its client still reads an answer, or the kernel holds unread bytes of it."""
        if self._phase is not Phase.IDLE:
            return
        if not has_unread(self._transport):
            self._close()
            return
        if ack_progress(self._transport) is not None:
            self._watch_unread()
        self._wait_for_request()

    def _start_timer(self, delay_s: float, error: ChannelstreamError) -> None:
        self._stop_timer()
        self._timer = self._loop.call_later(delay_s, self.time_is_up, error)

    def time_is_up(self, error: ChannelstreamError) -> None:
        """Refuse, but let the loop first read what the kernel holds: if the loop is behind, the request may be there."""
        if has_unread(self._transport):
            self._timer = self._loop.call_later(READ_S, self._refuse, error)
        else:
            self._refuse(error)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _watch_unread(self) -> None:
        """Drop a client that acknowledges nothing of the written bytes."""
        if self._unread is None:
            self._unread = UnreadAnswer(
                self._transport, self._http_server.settings.keep_alive_s, self._loop.call_later
            )
        self._unread.watch()

    def _stop_unread_timer(self) -> None:
        if self._unread is not None:
            self._unread.stop()
            self._unread = None

    def _pause_reading(self) -> None:
        if not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._is_paused:
            self._is_paused = False
            self._transport.resume_reading()


def _address(name: Any) -> Address | None:
    """Return host and port; None for a unix socket."""
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) else None
