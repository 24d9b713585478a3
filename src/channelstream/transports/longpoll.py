"""Long polls: each request is a stream that ends with its first write."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

from channelstream.core.codec import Framing, closing_item, json_list
from channelstream.core.connection import Connection
from channelstream.core.position import Offsets
from channelstream.errors import ChannelstreamError, CloseCode, Invalid, closed
from channelstream.http.line import Line
from channelstream.transports.session import Session
from channelstream.transports.streams import Streams

CALLBACK = re.compile(r"[A-Za-z_$][\w$.]{0,127}", re.ASCII)
"""What a JSONP callback may look like: names with dots, nothing that could be a statement."""

LONG_ANSWER_BYTES = 16_384
"""An answer of this size may take longer than the gap between two polls: at 1 KB/s, with the default of 15 s."""

Receive = Callable[[], Awaitable[Any]]


class PollStream:
    """One waiting request; its answer is ready after the first write.

    Args:
        line: by which the client has come; None where there is none to look at.
    """

    framing = Framing.POLL

    def __init__(self, streams: Streams, connection: Connection, line: Line | None = None) -> None:
        self._line = line
        self.answered = asyncio.Event()
        self.end: ChannelstreamError | None = None
        """Why the server ended it: the answer's error, but a script (JSONP) gets it as its last item."""
        self._streams = streams
        self._connection = connection
        self._session = Session(streams.node, connection, self)
        self._heard_before: Offsets = ()
        self._lead: bytes | None = None
        self._body: bytes | None = None

    def open(self, since: str | None) -> None:
        self._session.start(since)
        self._heard_before = self._connection.delivered

    def write(self, data: bytes) -> None:
        """Take the answer; whatever comes later waits in the log for the next poll."""
        self._body = data
        self._finish()

    def write_first(self, item: bytes, position: str) -> None:
        self._lead = item

    def caught_up(self) -> None:
        """Answer with what there is: the client must not wait to hear where it begins, or what it has lost."""
        self._finish()

    def close(self, code: CloseCode, reason: str) -> None:
        if not self.answered.is_set():
            self.end = closed(code, reason)
            self._body = json_list([closing_item(code, reason)])
            self._finish()

    def buffered_bytes(self) -> int:
        return len(self._body or b"")

    def _finish(self) -> None:
        self._session.lost(self._streams.settings.poll_gap_s)
        if self._is_lost():
            # Now, as the client may poll again before the end of this request is seen.
            self._session.mark_undelivered(self._heard_before)
        self.answered.set()

    def _is_lost(self) -> bool:
        return self._line is not None and self._line.has_ended()

    async def wait(self, receive: Receive) -> bytes | None:
        """Wait for the answer, but not longer than a poll may wait.

        Args:
            receive: the ASGI callable that tells when the client has gone.

        Returns:
            The list of items; None when nobody is left to hear it.
        """
        gone = asyncio.ensure_future(_disconnected(receive))
        answered = asyncio.ensure_future(self.answered.wait())
        try:
            await asyncio.wait(
                (gone, answered),
                timeout=self._streams.settings.poll_timeout_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
            # A client may have gone in the same turn of the loop; the task that waits for it hears it in the next.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        finally:
            gone.cancel()
            answered.cancel()
        self._finish()
        if is_lost := gone.done() or self._is_lost():
            self._session.mark_undelivered(self._heard_before)
        # Stream and session hold each other, and the garbage collector comes rarely.
        del self._session
        return None if is_lost else self._answer()

    async def hold_while_read(self) -> None:
        """Keep the connection while its client reads a long answer: it cannot poll again before it has the end."""
        line = self._line
        if line is None:
            return
        gap_s, connection = self._streams.settings.poll_gap_s, self._connection
        before = line.taken()
        while before is not None and connection.stream is None:
            await asyncio.sleep(gap_s / 2)
            now = line.taken()
            if now is not None and now <= before:
                return
            self._streams.node.hold(connection, gap_s)
            before = now

    def _answer(self) -> bytes:
        # Whoever holds the connection for a slow client does not hold the answer.
        body, self._body = self._body, None
        items = (body or b"[]")[1:-1]
        return json_list([part for part in (self._lead, items) if part])


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def check_callback(callback: str) -> str:
    """Return a JSONP callback that is safe to write into a script.

    Raises:
        Invalid: it is anything but names joined by dots.
    """
    if CALLBACK.fullmatch(callback) is None:
        raise Invalid({"callback": ["Not a valid callback name."]})
    return callback


def jsonp(callback: str, body: bytes) -> bytes:
    """Return a script that calls back; the comment in front defuses content sniffing.

    JSON may hold the two separators as they are, which end a line of a script before ECMAScript 2019.
    """
    for separator in "\u2028\u2029":
        body = body.replace(separator.encode(), b"\\u%04x" % ord(separator))
    return b"/**/%b(%b);" % (callback.encode(), body)
