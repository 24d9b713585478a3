"""One request and its answer on a connection.

The reader pushes the body in as it arrives, and the handler pulls it out and answers whenever it likes; either side
may stop first. Invariants: at most `BODY_BYTES` and one packet of the body are buffered, since the socket is not read
while `is_full`; and an answer is framed exactly as its head says (Content-Length, chunks, or the end of the
connection), or the connection is closed, so that no byte of it can be taken for the next answer.

Races that the flags stand for:

- `is_half_closed`: the client has closed its sending side. It may still read the answer, so the request continues;
  but a long poll, which only waits, learns by `receive` that it may end.
- `is_abandoned`: no one reads the answer any more. The handler is not cancelled, as its call may have taken effect
  half-way; what it still writes is dropped.
- `is_answered` before `is_whole`: the handler did not read the whole body. The rest is read and discarded. If it is
  chunked, or if the client waits for `100 Continue`, the connection is closed after the answer instead, as the end of
  the body may never come.
"""

import asyncio
import logging
from collections.abc import Awaitable, Coroutine, Sequence
from contextlib import aclosing
from typing import Any, Protocol

from channelstream.core.headers import Header
from channelstream.core.http_head import RequestHead
from channelstream.http.answers import CLOSE, CONTINUE, AnswerHeads, checked_lines, closes, status_line
from channelstream.http.line import Line
from channelstream.http.outbound import Outbound
from channelstream.http.phase import Work
from channelstream.http.request import ClientGone, Part, Request
from channelstream.http.response import Response
from channelstream.http.router import Handler

BODY_BYTES = 65_536
"""Bytes of a body that may wait for the handler; while there are more, the socket is not read."""
WITHOUT_BODY = (204, 304)
WHOLE = b"%b%d%b\r\n%b"
"""An answer in one step, with the fields of `Response.fields`: an `AnswerHead` around the length, and the body."""

logger = logging.getLogger(__name__)
access_logger = logging.getLogger("channelstream.access")


class AnswerSink(Protocol):
    """The connection of an exchange."""

    access_log: bool
    heads: AnswerHeads

    def begun(self, status: int) -> None:
        """Called when the answer begins."""

    def body_consumed(self) -> None:
        """Called when the handler has read from the body: there is room for more of it."""

    def answered(self) -> None:
        """Called when the answer is complete."""

    def fail(self) -> None:
        """Called when the handler ended without an answer, or after the beginning of one."""

    def abort(self) -> None: ...


class HttpExchange:
    """The handler's side of a request.

    Attributes:
        is_whole: the body has been received to its end.
        is_half_closed: the client sends nothing more; it may still read.
        is_abandoned: no one reads the answer, which is dropped.
    """

    __slots__ = (
        "_body",
        "_changed",
        "_has_reported_end",
        "_head",
        "_is_chunked",
        "_left",
        "_out",
        "_sink",
        "_waits_for_continue",
        "has_started",
        "is_abandoned",
        "is_answered",
        "is_half_closed",
        "is_whole",
        "keep_alive",
    )

    def __init__(
        self, sink: AnswerSink, out: Outbound, head: RequestHead, is_whole: bool, body: bytes = b""
    ) -> None:
        """Begin a request.

        Args:
            sink: the connection.
            out: its sending side.
            head: the head of the request.
            is_whole: whether it has no body, or `body` is all of it.
            body: what is received of it already.
        """
        self.keep_alive = head.keep_alive
        self.is_whole = is_whole
        self.is_half_closed = self.is_abandoned = False
        self.has_started = self.is_answered = False
        self._sink = sink
        self._out = out
        self._head = head
        self._body = body
        self._has_reported_end = False
        self._waits_for_continue = head.expects_continue
        self._changed: asyncio.Event | None = None
        self._is_chunked = False
        self._left: int | None = 0  # Bytes the answer announces; None: not known before its end.

    def again(self, head: RequestHead, body: bytes) -> None:
        """Begin the next request, which is whole, and has the head of the one before but for `http_head_form.CHANGING`.

        That one was whole as well, and has been answered at once, in one write, and the connection is still open: all that
        is not set here is as it is in a new exchange.
        """
        self._head = head
        self._body = body
        self.has_started = self.is_answered = self._has_reported_end = False

    # -- what the client sends

    @property
    def is_done(self) -> bool:
        """Whether the next request can be read: the body is there, and the answer is written."""
        return self.is_answered and self.is_whole

    @property
    def is_full(self) -> bool:
        """Whether the handler must read before more of the body is received."""
        return len(self._body) > BODY_BYTES

    @property
    def work(self) -> Work:
        """What is done for the client."""
        if self.has_started:
            return Work.NONE
        return Work.HANDLER if self.is_whole else Work.RECEIVING

    def receive_body(self, part: bytes, is_whole: bool) -> None:
        """Buffer a part of the body; after the answer, discard it."""
        if not self.is_answered:
            self._body = self._body + part if self._body else part
        self.is_whole = is_whole
        if self._changed is not None:
            self._changed.set()

    def half_close(self) -> None:
        """Note that the client sends nothing more, and wake a handler that waits for it."""
        self.is_half_closed = True
        self._wake()

    def end(self) -> None:
        """Drop the answer from now on, and wake a handler that waits for the client."""
        self.is_abandoned = True
        self._wake()

    def _wake(self) -> None:
        if self._changed is not None:
            self._changed.set()

    async def receive(self) -> Part | None:
        """Return the next part of the body; None if the client has gone or the answer is complete."""
        if self._waits_for_continue and not (self.is_abandoned or self.has_started):
            self._waits_for_continue = False
            self._out.write(CONTINUE)
        while not (self.is_abandoned or self.is_answered):
            if self._body or (self.is_whole and not self._has_reported_end):
                return self._next_part()
            if self.is_half_closed:
                break
            if self._changed is None:
                self._changed = asyncio.Event()
            self._changed.clear()
            await self._changed.wait()
        return None

    def take_whole(self) -> bytes | None:
        """Return the body, if all of it is there; else None, and `receive` reads it. Nothing may have been read before."""
        if not self.is_whole or self._waits_for_continue or self.is_abandoned:
            return None
        body, self._body, self._has_reported_end = self._body, b"", True
        return body

    def _next_part(self) -> Part:
        body, self._body = self._body, b""
        self._has_reported_end = self.is_whole
        if not self.is_whole:
            self._sink.body_consumed()
        return body, not self.is_whole

    def line(self) -> Line:
        return self._out.line()

    # -- what the handler answers

    def serve(self, handler: Handler, request: Request) -> Coroutine[Any, Any, None] | None:
        """Let the handler answer; return the rest of the work, None if it has answered at once.

        Its errors are logged, and answered with 500.
        """
        try:
            answer = handler(request)
            if isinstance(answer, Response) and self._write_whole(answer):
                return None
        except Exception:
            logger.exception("an HTTP request failed with an unexpected error")
            self.fail()
            return None
        return self._answer_later(answer)

    async def _answer_later(self, answer: Response | Awaitable[Response | None]) -> None:
        """Write an answer that waits for something, or for room in the transport, as `serve` does.

        If the handler finds that the client has gone, which the loop may not have read yet, the connection closes.
        """
        try:
            response = answer if isinstance(answer, Response) else await answer
            if response is not None and not self._write_whole(response):
                await self._write_parts(response)
        except asyncio.CancelledError:
            self._sink.abort()
        except ClientGone:
            logger.debug("a client disconnected before it was answered")
            self.half_close()
            self.fail()
        except Exception:
            logger.exception("an HTTP request failed with an unexpected error")
            self.fail()
        else:
            if not (self.is_answered or self.is_abandoned):
                self._fail_without_answer()

    def fail(self) -> None:
        """Answer with 500, or close if an answer has begun already."""
        if not self.is_answered:
            self._sink.fail()

    def _fail_without_answer(self) -> None:
        if not self.is_half_closed:
            logger.error("an HTTP request handler returned without an answer")
        self._sink.fail()

    def _write_whole(self, response: Response) -> bool:
        """Write an answer in one write; return False if it is in parts, or the transport is full."""
        body = response.body
        if self.is_abandoned:
            return True
        if self._out.is_full or not isinstance(body, bytes):
            return False
        head = self._sink.heads.of(response.status, response.content_type, response.headers)
        self._begin(response.status)
        after_length = head.after_length
        if head.closes or not self.keep_alive:
            after_length += self._connection_line(head.closes)
        sent = b"" if self._head.method == "HEAD" else body
        self._out.write(WHOLE % (head.before_length, len(body), after_length, sent))
        self._complete()
        return True

    async def _write_parts(self, response: Response) -> None:
        """Write an answer part by part, as the transport has room."""
        async with aclosing(response.parts()) as parts:
            await self.start(response.status, response.fields())
            async for part in parts:
                if self.is_abandoned or self._head.method == "HEAD":
                    break
                await self.write(part)
        self.finish()

    async def start(self, status: int, headers: Sequence[Header]) -> None:
        """Write the head of an answer. Without Content-Length the body is of unknown length.

        Raises:
            ValueError: a header has a line end in its value.
            RuntimeError: the answer has begun already.
        """
        await self._drained()
        if self.is_abandoned:
            return
        if self.has_started:
            raise RuntimeError("an answer cannot begin twice")
        text = checked_lines(headers) + self._frame(status, dict(headers))
        self._begin(status)
        text += self._connection_line(closes(headers))
        self._out.write(b"%b%b%b\r\n" % (status_line(status), self._sink.heads.date(), text))

    async def write(self, part: bytes) -> None:
        """Write a part of the body, when the client has read enough of the earlier ones.

        Raises:
            RuntimeError: no answer has begun, it is complete, or longer than its Content-Length.
        """
        await self._drained()
        if self._may_write():
            self._write_part(part)

    def finish(self) -> None:
        """End the body.

        Raises:
            RuntimeError: no answer has begun, it is complete, or shorter than its Content-Length.
        """
        if not self._may_write():
            return
        if self._left:
            raise RuntimeError("the answer is shorter than its Content-Length")
        if self._is_chunked and self._head.method != "HEAD":
            self._out.write(b"0\r\n\r\n")
        self._complete()

    async def _drained(self) -> None:
        if self._out.is_full:
            await self._out.drained()

    def _may_write(self) -> bool:
        if not self.is_abandoned and (self.is_answered or not self.has_started):
            raise RuntimeError("a body must follow its head")
        return not self.is_abandoned

    def _frame(self, status: int, fields: dict[bytes, bytes]) -> bytes:
        """Decide how the end of the body is known, and return the header that says so, if the answer has none.

        With HTTP/1.0 only the end of the connection ends a body of unknown length.
        """
        if self._head.method == "HEAD" or status in WITHOUT_BODY:
            self._left = 0
        elif b"content-length" in fields:
            self._left = int(fields[b"content-length"])
        else:
            self._left = None
            self._is_chunked = self._head.version == "1.1"
        return b"transfer-encoding: chunked\r\n" if self._is_chunked else b""

    def _begin(self, status: int) -> None:
        self.has_started = True
        if self._waits_for_continue:
            # The client may still send the body or not, so the next bytes are ambiguous (RFC 9110, 10.1.1).
            self.keep_alive = False
        if self._head.body_bytes is None and not self.is_whole:
            # To read a body of unknown length to its end costs more than a new connection.
            self.keep_alive = False
        self._sink.begun(status)
        if self._sink.access_log:
            self._log(status)

    def _connection_line(self, closes_already: bool) -> bytes:
        """Return the header that announces the close of the connection, unless the answer has it."""
        if closes_already:
            self.keep_alive = False
            return b""
        return b"" if self.keep_alive else CLOSE

    def _write_part(self, part: bytes) -> None:
        if self._head.method == "HEAD" or not part:
            return
        if self._left is not None:
            self._left -= len(part)
            if self._left < 0:
                raise RuntimeError("the answer is longer than its Content-Length")
        elif self._is_chunked:
            part = b"%x\r\n%b\r\n" % (len(part), part)
        self._out.write(part)

    def _complete(self) -> None:
        self.is_answered = True
        self._body = b""
        if self._changed is not None:
            self._changed.set()
        self._sink.answered()

    def _log(self, status: int) -> None:
        head = self._head
        host, port = head.client or ("", 0)
        target = head.raw_path + (b"?" + head.query if head.query else b"")
        access_logger.info(
            '%s:%d - "%s %s HTTP/%s" %d',
            host,
            port,
            head.method,
            target.decode("ascii"),
            head.version,
            status,
        )
