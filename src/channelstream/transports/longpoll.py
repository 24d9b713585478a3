"""Long polls: each request is a stream that ends with its first write.

Invariant: an event counts as delivered only if its answer has reached the socket of a client that was still there.
HTTP does not confirm that an answer was read, and a client that closes the connection may do so before, while or
after the answer is written. A poll of an older generation has no `since`, so an event that is counted as delivered to
a client that has gone would be lost.

The race: the end of the client's connection arrives in the same loop turn as an event, and the task that waits for it
(`Request.disconnected`) runs one turn later. So the socket is asked for its end, once at the write, since the client
may send its next poll at once, and once before the answer is sent. If the client has gone,
`Attachment.mark_undelivered` moves `delivered` back to where this poll began; it does nothing if another poll has been
answered meanwhile. What remains is a client that disappears without closing, or after the answer has left: it gets
these events again only if it polls with `since`. To acknowledge each answer in the next poll would close that gap, and
is what `since` does.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence

from channelstream.apps.client import Client
from channelstream.close_codes import CloseCode
from channelstream.core.connection import Connection
from channelstream.core.format import Format
from channelstream.core.position import Offsets
from channelstream.errors import ChannelstreamError, Invalid, closed
from channelstream.http.line import Line
from channelstream.transports.attachment import Attachment
from channelstream.transports.reading import Change
from channelstream.transports.streams import Streams
from channelstream.wire.commanding import CommandSession
from channelstream.wire.framing import Framing

CALLBACK = re.compile(r"[A-Za-z_$][\w$.]{0,127}", re.ASCII)
"""The form of a JSONP callback: names joined by dots, nothing that could be a statement."""

LONG_ANSWER_BYTES = 16_384
"""An answer of this size may take longer than the gap between two polls: at 1 KB/s, with the default of 15 s."""


class PollStream:
    """One waiting request; its answer is ready after the first write.

    Args:
        line: the socket of the request; None where the server does not expose it.

    Attributes:
        is_finished: whether the answer is ready, and the connection may open another stream.
    """

    def __init__(self, streams: Streams, connection: Connection, line: Line | None = None) -> None:
        self.session = streams.protocols.session_of(connection.protocol, Framing.POLL)
        self._line = line
        self.end: ChannelstreamError | None = None
        """The error by which the server ended the stream; a script (JSONP) gets it as its last item instead."""
        self._streams = streams
        self._wait_s = streams.settings.poll_timeout_s
        self.client: Client | None = None
        """What the token of its client says; None if it was opened without one."""
        self._connection = connection
        self._attachment = Attachment(streams.node, connection, self)
        self._delivered_before: Offsets = ()
        self._first: list[bytes] = []
        self._body: bytes | None = None
        self.is_finished = self._has_turn = False
        self._turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def admit(self, client: Client, greeting: Sequence[bytes]) -> None:
        """Take what the token of the client says: the poll waits no longer than it is valid.

        Args:
            client: as the token says.
            greeting: items that the answer begins with.
        """
        self.client = client
        self._wait_s = min(self._wait_s, client.left_s(self._streams.node.clock.wall()))
        if isinstance(self.session, CommandSession):
            self.session.greeting = greeting

    def open(self, since: str | None) -> None:
        self._attachment.start(since)
        # `start` ends the stream before this one, which sets `delivered`. Nothing is written yet: in the task of a request
        # the catch-up begins in a later turn.
        self._delivered_before = self._connection.delivered

    def write(self, data: bytes) -> None:
        """Set the answer; later events wait in the log for the next poll."""
        self._body = data
        self._finish()

    @property
    def format(self) -> Format:
        return self.session.format

    def write_first(self, data: bytes) -> None:
        self._first.append(data)

    def caught_up(self) -> None:
        """Answer now: the client needs its first position, or the list of lost channels, without waiting for an event."""
        self._finish()

    def close(self, code: CloseCode, reason: str) -> None:
        """End the poll; its answer says why.

        If it lost events after its `resumed` item was made, the answer is that item: the next poll reports them.
        """
        if not self.is_finished:
            if code is not CloseCode.TOO_SLOW or not self._first:
                self.end = closed(code, reason)
                self._body = self.session.closing(code, reason)
            self._finish()

    async def change(self, make: Callable[[], Awaitable[Change]]) -> None:
        """Change what the stream receives (`Attachment.change`)."""
        await self._attachment.change(make)

    def buffered_bytes(self) -> int:
        return len(self._body or b"")

    def _finish(self) -> None:
        self._attachment.lost(self._streams.settings.poll_gap_s)
        if self._is_lost():
            # Now, as the client may poll again before `wait` continues.
            self._attachment.mark_undelivered(self._delivered_before)
        self.is_finished = True
        self._request_turn()

    def _request_turn(self) -> None:
        """Let `wait` continue: a message may answer very many polls at once, of which each loop turn answers a few."""
        if not self._has_turn:
            self._has_turn = True
            self._streams.answers.run(self._take_turn)

    def _take_turn(self) -> None:
        if not self._turn.done():
            self._turn.set_result(None)

    def _is_lost(self) -> bool:
        return self._line is not None and self._line.has_ended()

    async def wait(self, until_gone: Callable[[], Awaitable[None]]) -> bytes | None:
        """Wait for the answer, but not longer than a poll may wait.

        Args:
            until_gone: returns when the client disconnects.

        Returns:
            The list of items; None if the client has gone.
        """
        loop = asyncio.get_running_loop()
        disconnected = asyncio.ensure_future(until_gone())
        disconnected.add_done_callback(lambda _: self._request_turn())
        timer = loop.call_later(self._wait_s, self._request_turn)
        try:
            await self._turn
            # The client may have gone in this loop turn; `until_gone` returns in the next, and its task ends one later.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        finally:
            disconnected.cancel()
            timer.cancel()
        self._finish()
        if is_lost := disconnected.done() or self._is_lost():
            self._attachment.mark_undelivered(self._delivered_before)
        # Stream and attachment hold each other, and the garbage collector comes rarely.
        del self._attachment
        return None if is_lost else self._answer()

    async def hold_while_read(self) -> None:
        """Keep the connection while its client reads a long answer, since it cannot poll again before the end of it."""
        line = self._line
        if line is None:
            return
        gap_s, connection = self._streams.settings.poll_gap_s, self._connection
        before = line.ack_progress()
        while before is not None:
            await asyncio.sleep(gap_s / 2)
            now = line.ack_progress()
            if now is not None and now <= before:
                return
            self._streams.node.local.extend(connection, gap_s)
            before = now

    def _answer(self) -> bytes:
        # `hold_while_read` keeps this stream while a slow client reads, but not the memory of the answer.
        body, self._body = self._body, None
        return self.session.joined(self._first if body is None else [*self._first, body])


def check_callback(callback: str) -> str:
    """Return a JSONP callback, which is safe to write into a script.

    Raises:
        Invalid: it is not names joined by dots.
    """
    if CALLBACK.fullmatch(callback) is None:
        raise Invalid({"callback": ["Not a valid callback name."]})
    return callback


def jsonp(callback: str, body: bytes) -> bytes:
    """Return a script that calls back; the comment at its start defuses content sniffing.

    U+2028 and U+2029 are escaped: JSON allows them in strings, scripts do so only since ECMAScript 2019.
    """
    for separator in "\u2028\u2029":
        body = body.replace(separator.encode(), b"\\u%04x" % ord(separator))
    return b"/**/%b(%b);" % (callback.encode(), body)
