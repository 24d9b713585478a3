"""What a connection waits for, and what happens if it does not come.

Every wait has a bound, by its phase (`Phase`): for a head, for a body, for the next request, and for what a client still
sends after the last answer. (A client that reads nothing of its answer is `unread.py`'s.) An idle connection is closed
only if nothing of a request has arrived. What has arrived may wait for its turn (`inbound.py`), and the loop may not have
read yet what the kernel already holds, so the socket is checked for it (`close_if_idle`): a request that crosses with the
close would get a reset as answer. A head or a body is late only if it is not there after its turn, or after the loop has
read once more (`time_is_up`): where very many clients come back at once, the loop is behind by longer than they may take.

An answer that closes the connection before the whole request was read would be lost, since the kernel resets a socket
that is closed with unread bytes, and the reset overtakes the answer. So the connection lingers (`Phase.LINGER`): it
closes its own side, and reads and discards for `LINGER_S` (RFC 9112, 9.6).

The connection is an argument of each wait, and not an attribute: after the last wait nothing here refers to it, so it
needs no garbage collector.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from channelstream.errors import ChannelstreamError, TimedOut
from channelstream.http.inbound import Inbound
from channelstream.http.line import ack_progress, has_unread
from channelstream.http.outbound import Outbound
from channelstream.http.phase import CLOSED, HEAD, IDLE, LINGER
from channelstream.http.shared import HttpServer
from channelstream.http.timers import IdleTimer, Wait

LINGER_S = 2.0
LINGER_BYTES = 16_777_216
"""How long, and how much, a client may still send after an answer that closes the connection; it is discarded."""

LATE_HEAD = "The head of the request took too long."
LATE_BODY = "The body of the request took too long."
READ_S = 0.001
"""In this time the loop reads what the kernel holds, in seconds."""


class Owner(Protocol):
    """The connection that waits."""

    def refuse(self, error: ChannelstreamError) -> None:
        """Answer with an error and close; if an answer has begun, only close."""

    def close(self) -> None:
        """Close at once."""


class Waiting:
    """The phase of a connection, with the timers of what it waits for.

    Attributes:
        phase: what is awaited; the connection itself sets `EXCHANGE` when a request begins.
    """

    __slots__ = (
        "_idle",
        "_in",
        "_linger_left",
        "_out",
        "_settings",
        "_transport",
        "_wait",
        "_waits",
        "phase",
    )

    def __init__(
        self, transport: asyncio.Transport, inbound: Inbound, out: Outbound, http_server: HttpServer
    ) -> None:
        """Start with a new socket, in `Phase.HEAD` and without a timer."""
        self.phase = HEAD
        self._settings = http_server.settings
        self._waits = http_server.waits
        self._wait: Wait | None = None
        self._idle: IdleTimer | None = None
        self._transport = transport
        self._in = inbound
        self._out = out
        self._linger_left = LINGER_BYTES

    def for_head(self, owner: Owner) -> None:
        """Start the timer of a head: at its first byte, or for the first head when the socket is accepted."""
        self.phase = HEAD
        if self._wait is None:
            self._start(self._settings.head_timeout_s, self.time_is_up, owner, LATE_HEAD)

    def for_request(self, owner: Owner) -> None:
        """Wait for the next request; before the first one the timer of the head runs."""
        if self.phase is HEAD:
            return
        self.phase = IDLE
        if self._idle is None:
            self._idle = IdleTimer(asyncio.get_running_loop(), self._settings.keep_alive_s)
        self._idle.start(self.close_if_idle, owner)

    def for_body(self, owner: Owner) -> None:
        """Start the timer of a body, in place of that of the head."""
        self._start(self._settings.body_timeout_s, self.time_is_up, owner, LATE_BODY)

    def received(self) -> None:
        """Stop the timer of a head or a body: the request has been received to its end."""
        if self._wait is not None:
            self._wait.cancel()
            self._wait = None

    def linger(self, owner: Owner) -> None:
        """Close the own side, and wait until the client has closed, or for `LINGER_S`."""
        self.phase = LINGER
        self._start(LINGER_S, owner.close)
        self._out.watch()
        if self._transport.can_write_eof():
            self._transport.write_eof()

    def discard(self, size: int, owner: Owner) -> None:
        """Count bytes that a client sends while the connection lingers; close at `LINGER_BYTES`."""
        self._linger_left -= size
        if self._linger_left < 0:
            owner.close()

    def suspend(self) -> None:
        """Stop all timers, and stay in this phase."""
        self.received()
        if self._idle is not None:
            self._idle.stop()

    def end(self) -> None:
        """Wait for nothing more."""
        self.phase = CLOSED
        self.suspend()

    def close_if_idle(self, owner: Owner) -> None:
        """Close an idle connection, unless its client still reads an answer, or the kernel holds unread bytes of it."""
        if self.phase is not IDLE:
            return
        if not (self._in.waits_for_turn or has_unread(self._transport)):
            owner.close()
            return
        if ack_progress(self._transport) is not None:
            self._out.watch()
        self.for_request(owner)

    def time_is_up(self, owner: Owner, late: str) -> None:
        """Refuse, but let the loop first read what the kernel holds: if the loop is behind, the request may be there."""
        if self._in.waits_for_turn:
            self._start(READ_S, self.time_is_up, owner, late)
        elif has_unread(self._transport):
            self._start(READ_S, owner.refuse, TimedOut(late))
        else:
            owner.refuse(TimedOut(late))

    def _start(self, delay_s: float, do: Callable[..., None], *arguments: object) -> None:
        """Call a function after a delay in seconds, in place of what was to be called."""
        self.received()
        self._wait = self._waits.start(delay_s, do, arguments)
