"""One accepted socket as long as it speaks HTTP: a request, its answer, the next request.

The next request is read when the answer before it is out. What a client sends meanwhile is at most one packet, then the
socket is not read: requests whose answers nobody reads fill no memory.
"""

import asyncio
import select
from enum import Enum, auto
from typing import Any

from channelstream.asgi import WHOLE_ANSWER, refusal
from channelstream.core.http_head import RequestHead
from channelstream.core.http_reader import RequestReader
from channelstream.core.policy import Header
from channelstream.errors import (
    ChannelstreamError,
    Internal,
    TimedOut,
    Unavailable,
)
from channelstream.http.answers import CLOSE, lines, status_line
from channelstream.http.closing import close_transport, is_tls
from channelstream.http.exchange import Exchange
from channelstream.http.line import LINE, Line, taken
from channelstream.http.shared import SPARE_SOCKETS, HttpServer, Socket
from channelstream.http.unread import UnreadAnswer

ASGI = {"version": "3.0", "spec_version": "2.3"}
LINGER_S = 2.0
LINGER_BYTES = 16_777_216
"""What a client may still send behind an answer that closes, and how long. It is thrown away: a socket that is closed
with unread bytes is reset, and many clients then never see the answer."""


class Phase(Enum):
    """Where a connection is."""

    IDLE = auto()
    HEAD = auto()
    EXCHANGE = auto()
    LINGER = auto()
    CLOSED = auto()


class HttpConnection(asyncio.Protocol):
    """An accepted socket."""

    __slots__ = (
        "_client",
        "_continuation",
        "_drained",
        "_exchange",
        "_has_ended",
        "_headers",
        "_http_server",
        "_idle_since_s",
        "_idle_timer",
        "_is_paused",
        "_is_stopping",
        "_linger_left",
        "_loop",
        "_phase",
        "_predecessor",
        "_reader",
        "_scheme",
        "_server",
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
            before: what counted for this socket until now.
        """
        self.access_log = http_server.settings.access_log
        self.date = http_server.date
        self.is_full = False
        self._http_server = http_server
        self._predecessor = predecessor
        self._reader = RequestReader(http_server.settings.head_bytes)
        self._phase = Phase.HEAD
        self._exchange: Exchange | None = None
        self._headers: list[Header] = []
        self._timer: asyncio.TimerHandle | None = None
        self._continuation: asyncio.Handle | None = None
        self._idle_timer: asyncio.TimerHandle | None = None
        self._idle_since_s = 0.0
        self._unread: UnreadAnswer | None = None
        self._drained: asyncio.Event | None = None
        self._is_paused = self._is_stopping = self._has_ended = False
        self._linger_left = LINGER_BYTES

    # -- the life of the socket

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self.write = transport.write
        self._loop = asyncio.get_running_loop()
        self._client = _address(transport.get_extra_info("peername"))
        self._server = _address(transport.get_extra_info("sockname"))
        self._scheme = "https" if is_tls(transport) else "http"
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
            # They hold each other, and the garbage collector comes rarely.
            self._exchange = None
        self._http_server.unregister(self)

    def eof_received(self) -> bool:
        """Go on if the client may wait for an answer: it has said all, and may listen still.

        Returns:
            Whether the socket stays open for writing; one of TLS never does.
        """
        self._has_ended = True
        exchange = self._exchange
        if exchange is None or not exchange.is_whole or self._phase is not Phase.EXCHANGE:
            self._close()
            return False
        exchange.half_close()
        return self._scheme == "http"

    @property
    def is_open(self) -> bool:
        return self._phase is Phase.EXCHANGE and not self._transport.is_closing()

    def stop(self) -> None:
        """Close at once, or behind the answer if the request is there."""
        self._is_stopping = True
        exchange = self._exchange if self._phase is Phase.EXCHANGE else None
        if exchange is None or exchange.is_answered or not exchange.is_whole:
            self._close()
        else:
            exchange.keep_alive = False

    def abort(self) -> None:
        self._transport.abort()

    def release(self) -> tuple[asyncio.Transport, bytes]:
        """Let go of the socket, and keep nothing that only the garbage collector could free."""
        self._enter_closed()
        self._stop_unread_timer()
        self._exchange = None
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
        """Read up to the end of the request at hand; when its answer is out, begin with the next.

        One whose answer still waits for the client would find a full transport, which tells a stream nothing.

        Raises:
            ChannelstreamError: the client broke the rules.
        """
        exchange = self._exchange
        if exchange is not None:
            self._read_body(exchange)
            if not (exchange.is_answered and exchange.is_whole) or self.is_full:
                return
            self._exchange = None
        head = self._reader.head()
        if head is not None:
            self._begin(head)
        elif self._has_ended or self._is_stopping:
            self._close()
        elif self._reader.has_more:
            self._wait_for_head()
        else:
            self._wait_for_request()

    def _read_body(self, exchange: Exchange) -> None:
        reader = self._reader
        if not exchange.is_whole:
            part = reader.body()
            exchange.receive_body(part, reader.is_whole)
            if reader.is_whole:
                self._stop_timer()
            elif reader.has_stopped and not exchange.is_full:
                self._continue_later()
        has_next = exchange.is_whole and reader.has_more and (not exchange.is_answered or self.is_full)
        if exchange.is_full or reader.has_stopped or has_next:
            self._pause_reading()
        else:
            self._resume_reading()

    def _continue_later(self) -> None:
        """Go on with the body when others had their turn."""
        if self._continuation is None:
            self._continuation = self._loop.call_soon(self._continue_body)

    def _continue_body(self) -> None:
        self._continuation = None
        if self._phase is Phase.EXCHANGE:
            self._proceed()

    def _begin(self, head: RequestHead) -> None:
        """Serve a request as far as it is there."""
        self._phase = Phase.EXCHANGE
        self._stop_timer()
        self._headers = head.headers
        self._exchange = exchange = Exchange(self, head, self._scope(head))
        exchange.is_whole = self._reader.is_whole
        self._read_body(exchange)
        if not exchange.is_whole:
            self._start_timer(
                self._http_server.settings.body_timeout_s, TimedOut("The body of the request took too long.")
            )
        take_over = self._http_server.router(head, exchange.scope)
        if take_over is None:
            self.serve()
        else:
            take_over(self)

    def serve(self) -> None:
        """Let the application answer the request at hand."""
        exchange = self._exchange
        if exchange is not None and self.is_open:
            exchange.scope["extensions"] = {WHOLE_ANSWER: exchange.answer, LINE: Line(self._transport)}
            self._http_server.run(self._loop.create_task(exchange.run(self._http_server.app)))

    def _scope(self, head: RequestHead) -> dict[str, Any]:
        return {
            "type": "http",
            "asgi": ASGI,
            "http_version": head.version,
            "server": self._server,
            "client": self._client,
            "scheme": self._scheme,
            "method": head.method,
            "root_path": "",
            "path": head.path,
            "raw_path": head.raw_path,
            "query_string": head.query,
            "headers": head.headers,
        }

    # -- the answer

    def answered(self) -> None:
        """Go on after an answer."""
        exchange = self._exchange
        if exchange is None or self._phase is not Phase.EXCHANGE:
            return
        if not exchange.keep_alive or self._is_stopping:
            self._close_gently(is_whole=exchange.is_whole)
            return
        self._proceed()

    def fail(self) -> None:
        """Say that the request failed, unless an answer has begun: then only closing tells."""
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
        """Wait until the client has read enough, or is gone."""
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
        """Answer with an error and close; behind an answer, or the beginning of one, only close."""
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
        status, fields, body = refusal(error, self._http_server.policy.cors(self._headers))
        close = b"" if (b"connection", b"close") in fields else CLOSE
        self.write(b"%b%b%b%b\r\n%b" % (status_line(status), self.date(), lines(fields), close, body))
        self._close_gently(is_whole=False)

    # -- closing

    def _close_gently(self, is_whole: bool) -> None:
        """Close behind an answer.

        Args:
            is_whole: the client has said all; otherwise what it still sends is read for a moment and thrown away.
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
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None

    # -- waiting

    def _wait_for_head(self) -> None:
        """Bound the time of a head, from its first byte on, and that of the first one from the accepted socket on."""
        if self._timer is None or self._phase is not Phase.HEAD:
            self._phase = Phase.HEAD
            self._start_timer(
                self._http_server.settings.head_timeout_s, TimedOut("The head of the request took too long.")
            )

    def _wait_for_request(self) -> None:
        """Wait for the next request; before the first one the head's time runs."""
        if self._phase is not Phase.HEAD:
            self._phase = Phase.IDLE
            self._idle_since_s = self._loop.time()
            if self._idle_timer is None:
                self._wait_idle(self._http_server.settings.keep_alive_s)

    def _wait_idle(self, delay_s: float) -> None:
        self._idle_timer = self._loop.call_later(delay_s, self._check_idle)

    def _check_idle(self) -> None:
        """Look at a connection after its time; a timer for each request would cost more."""
        self._idle_timer = None
        if self._phase is Phase.IDLE:
            left_s = self._idle_since_s + self._http_server.settings.keep_alive_s - self._loop.time()
            if left_s > 0:
                self._wait_idle(left_s)
            else:
                self.close_if_idle()

    def close_if_idle(self) -> None:
        """Close an idle connection, unless its client still reads, or has sent what the loop has not seen yet."""
        if self._phase is not Phase.IDLE:
            return
        if taken(self._transport) is not None:
            self._watch_unread()
            self._wait_for_request()
        elif _is_readable(self._transport):
            self._wait_for_request()
        else:
            self._close()

    def _start_timer(self, delay_s: float, error: ChannelstreamError) -> None:
        self._stop_timer()
        self._timer = self._loop.call_later(delay_s, self._refuse, error)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _watch_unread(self) -> None:
        """Drop a client that reads nothing of what was written."""
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


def _address(name: Any) -> tuple[str, int] | None:
    """Return host and port; those of a unix socket have none."""
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) else None


def _is_readable(transport: asyncio.Transport) -> bool:
    """Say whether the kernel holds something that the client has sent, its end included."""
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
    return bool(poll.poll(0))
