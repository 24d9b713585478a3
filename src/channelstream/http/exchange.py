"""One request and its answer, as ASGI sees them.

The parser pushes the body in as it arrives, and the application pulls it out and writes its answer whenever it likes;
either side may stop first. Invariants: at most `BODY_BYTES` and one packet of the body are buffered, since the socket
is not read while `is_full`; and an answer is framed exactly as its head says (Content-Length, chunks, or the end of
the connection), or the connection is closed, so that no byte of it can be taken for the next answer.

Races that the flags stand for:

- `is_half_closed`: the client has closed its sending side. It may still read the answer, so the request continues;
  but a long poll, which only waits, learns by `http.disconnect` that it may end.
- `is_abandoned`: no one reads the answer any more. The application is not cancelled, as its call may have taken
  effect half-way; what it still sends is dropped.
- `is_answered` before `is_whole`: the application did not read the whole body. The rest is read and discarded. If it
  is chunked, or if the client waits for `100 Continue`, the connection is closed after the answer instead, as the end
  of the body may never come.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Protocol

from channelstream.asgi import App, Scope
from channelstream.core.http_head import RequestHead
from channelstream.core.policy import Header
from channelstream.http.answers import CLOSE, CONTINUE, checked_lines, lines, status_line

BODY_BYTES = 65_536
"""Bytes of a body that may wait for the application; while there are more, the socket is not read."""
WITHOUT_BODY = (204, 304)

logger = logging.getLogger(__name__)
access_logger = logging.getLogger("channelstream.access")


class AnswerSink(Protocol):
    """The connection that an exchange writes its answer to.

    Attributes:
        is_full: the transport is full, as the client reads too slowly; `drained` waits until it has room.
    """

    is_full: bool
    access_log: bool

    async def drained(self) -> None: ...
    def write(self, data: bytes) -> None: ...
    def date(self) -> bytes: ...
    def body_consumed(self) -> None:
        """Called when the application has read from the body: there is room for more of it."""

    def answered(self) -> None:
        """Called when the answer is complete."""

    def fail(self) -> None:
        """Called when the application ended without an answer, or after the beginning of one."""

    def abort(self) -> None: ...


class Exchange:
    """The application's side of a request.

    Attributes:
        is_whole: the body has been received to its end.
        is_half_closed: the client sends nothing more; it may still read.
        is_abandoned: no one reads the answer, which is dropped.
    """

    __slots__ = (
        "_body",
        "_changed",
        "_has_chunked_body",
        "_has_reported_end",
        "_is_chunked",
        "_left",
        "_sink",
        "_waits_for_continue",
        "has_started",
        "is_abandoned",
        "is_answered",
        "is_half_closed",
        "is_whole",
        "keep_alive",
        "scope",
    )

    def __init__(self, sink: AnswerSink, head: RequestHead, scope: Scope) -> None:
        self.scope = scope
        self.keep_alive = head.keep_alive
        self.is_whole = self.is_half_closed = self.is_abandoned = False
        self.has_started = self.is_answered = False
        self._sink = sink
        self._body = bytearray()
        self._has_reported_end = False
        self._has_chunked_body = head.body_bytes is None
        self._waits_for_continue = head.expects_continue
        self._changed: asyncio.Event | None = None
        self._is_chunked = False
        self._left: int | None = 0  # Bytes the answer announces; None: not known before its end.

    # -- what the client sends

    @property
    def is_full(self) -> bool:
        """Whether the application must read before more of the body is received."""
        return len(self._body) > BODY_BYTES

    def receive_body(self, part: bytes, is_whole: bool) -> None:
        """Buffer a part of the body; after the answer, discard it."""
        if not self.is_answered:
            self._body += part
        self.is_whole = is_whole
        self.wake()

    def half_close(self) -> None:
        """Note that the client sends nothing more, and wake an application that waits for it."""
        self.is_half_closed = True
        self.wake()

    def end(self) -> None:
        """Drop the answer from now on, and wake an application that waits for the client."""
        self.is_abandoned = True
        self.wake()

    def wake(self) -> None:
        if self._changed is not None:
            self._changed.set()

    async def receive(self) -> dict[str, Any]:
        """Return the next event (ASGI)."""
        if self._waits_for_continue and not (self.is_abandoned or self.has_started):
            self._waits_for_continue = False
            self._sink.write(CONTINUE)
        while not (self.is_abandoned or self.is_answered):
            if self._body or (self.is_whole and not self._has_reported_end):
                return self._next_part()
            if self.is_half_closed:
                break
            if self._changed is None:
                self._changed = asyncio.Event()
            self._changed.clear()
            await self._changed.wait()
        return {"type": "http.disconnect"}

    def _next_part(self) -> dict[str, Any]:
        body, self._body = bytes(self._body), bytearray()
        self._has_reported_end = self.is_whole
        self._sink.body_consumed()
        return {"type": "http.request", "body": body, "more_body": not self.is_whole}

    # -- what the application answers

    async def run(self, app: App) -> None:
        """Run the application; log its errors, and answer them with 500."""
        try:
            await app(self.scope, self.receive, self.send)
        except asyncio.CancelledError:
            self._sink.abort()
        except Exception:
            logger.exception("an HTTP request failed with an unexpected error")
            if not self.is_answered:
                self._sink.fail()
        else:
            if not self.is_answered and not self.is_abandoned:
                if not self.is_half_closed:
                    logger.error("an HTTP request handler returned without an answer")
                self._sink.fail()
        finally:
            # Scope and exchange refer to each other by the extension: this frees them without the garbage collector.
            self.scope.pop("extensions", None)

    def answer(self, status: int, headers: Sequence[Header], body: bytes) -> bool:
        """Send a whole answer in one write; False if the transport is full (see `asgi.WHOLE_ANSWER`)."""
        if self.is_abandoned:
            return True
        if self._sink.is_full:
            return False
        self._begin(status)
        close = self._connection_line(headers)
        if self.scope["method"] == "HEAD":
            body = b""
        self._sink.write(
            b"%b%b%b%b\r\n%b" % (status_line(status), self._sink.date(), lines(headers), close, body)
        )
        self._complete()
        return True

    async def send(self, message: dict[str, Any]) -> None:
        """Send an event of the application (ASGI)."""
        if self._sink.is_full:
            await self._sink.drained()
        if self.is_abandoned:
            return
        if message["type"] == "http.response.start" and not self.has_started:
            self._send_head(message["status"], list(message.get("headers", ())))
        elif message["type"] == "http.response.body" and self.has_started and not self.is_answered:
            self._send_part(message.get("body", b""), message.get("more_body", False))
        else:
            raise RuntimeError(f"{message['type']} is out of order")

    def _send_head(self, status: int, headers: list[Header]) -> None:
        fields = dict(headers)
        extra = b""
        if self.scope["method"] == "HEAD" or status in WITHOUT_BODY:
            self._left = 0
        elif b"content-length" in fields:
            self._left = int(fields[b"content-length"])
        else:
            self._left, extra = None, self._unsized()
        text = checked_lines(headers) + extra
        self._begin(status)
        text += self._connection_line(headers)
        self._sink.write(b"%b%b%b\r\n" % (status_line(status), self._sink.date(), text))

    def _unsized(self) -> bytes:
        """Return the header of a body of unknown length; with HTTP/1.0 only the end of the connection ends it."""
        self._is_chunked = self.scope["http_version"] == "1.1"
        return b"transfer-encoding: chunked\r\n" if self._is_chunked else b""

    def _begin(self, status: int) -> None:
        self.has_started = True
        if self._waits_for_continue:
            # The client may still send the body or not, so the next bytes are ambiguous (RFC 9110, 10.1.1).
            self.keep_alive = False
        if self._has_chunked_body and not self.is_whole:
            # To read a body of unknown length to its end costs more than a new connection.
            self.keep_alive = False
        if self._sink.access_log:
            self._log(status)

    def _connection_line(self, headers: Sequence[Header]) -> bytes:
        """Return the header that announces the close of the connection, unless the application has sent it."""
        for name, value in headers:
            if name == b"connection" and b"close" in value:
                self.keep_alive = False
                return b""
        return b"" if self.keep_alive else CLOSE

    def _send_part(self, body: bytes, has_more: bool) -> None:
        if self.scope["method"] == "HEAD":
            body = b""
        elif self._left is not None:
            self._left -= len(body)
            if self._left < 0 or (self._left and not has_more):
                raise RuntimeError("the answer is not as long as its Content-Length")
        elif self._is_chunked:
            body = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            body += b"" if has_more else b"0\r\n\r\n"
        if body:
            self._sink.write(body)
        if not has_more:
            self._complete()

    def _complete(self) -> None:
        self.is_answered = True
        self._body = bytearray()
        self.wake()
        self._sink.answered()

    def _log(self, status: int) -> None:
        scope = self.scope
        host, port = scope["client"] or ("", 0)
        target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
        access_logger.info(
            '%s:%d - "%s %s HTTP/%s" %d',
            host,
            port,
            scope["method"],
            target.decode("ascii"),
            scope["http_version"],
            status,
        )
