"""Server-sent events: a plain asyncio protocol that writes prebuilt blocks after the head of the answer.

The end of the connection ends the body, and not a chunk or a length (RFC 9112, 6.3), so a block has the same bytes
for every stream.
"""

import asyncio

from channelstream.core.connection import Connection
from channelstream.core.format import Format
from channelstream.errors import CloseCode
from channelstream.http.closing import close_transport
from channelstream.http.line import ack_progress
from channelstream.http.moving import descriptor_of, drop_descriptor, is_movable
from channelstream.transports.attachment import LINE_LOST, Attachment
from channelstream.transports.moving import StreamKind, StreamRecord
from channelstream.transports.streams import Streams
from channelstream.wire.framing import Framing

INBOUND_BYTES = 4096
"""Most bytes that a client may send after its request, of no use here; with more, the stream is dropped."""
CLOSE_TIMEOUT_S = 2.0
"""Time in which a client must read the last event before the socket is dropped, in seconds."""


class SSEStream(asyncio.Protocol):
    """One event stream after its request."""

    __slots__ = (
        "_attachment",
        "_beats",
        "_close_timer",
        "_closing",
        "_inbound_left",
        "_last_progress",
        "_paused",
        "_slot",
        "_streams",
        "_transport",
        "session",
        "write",
    )

    def __init__(self, streams: Streams, transport: asyncio.Transport, connection: Connection) -> None:
        self._streams = streams
        self._transport = transport
        self.write = transport.write
        self.session = streams.protocols.session_of(connection.protocol, Framing.SSE)
        self._attachment = Attachment(streams.node, connection, self)
        self._slot = streams.heartbeat.add(self)
        self._inbound_left = INBOUND_BYTES
        self._paused = self._closing = False
        self._close_timer: asyncio.TimerHandle | None = None
        self._beats = 0
        self._last_progress: int | None = None

    def open(self, since: str | None) -> None:
        self._transport.set_write_buffer_limits(high=self._streams.settings.outbox_bytes)
        self._attachment.start(since)

    @property
    def format(self) -> Format:
        return self.session.format

    def write_first(self, data: bytes) -> None:
        self.write(data)

    def caught_up(self) -> None:
        """Nothing to do: everything has been written."""

    def close(self, code: CloseCode, reason: str) -> None:
        """Send the reason as the last event, and end the body."""
        if not self._closing:
            self._closing = True
            self._detach(code, reason)
            self.write(self.session.closing(code, reason))
            close_transport(self._transport)
            self._close_timer = asyncio.get_running_loop().call_later(CLOSE_TIMEOUT_S, self._transport.abort)

    def buffered_bytes(self) -> int:
        return self._transport.get_write_buffer_size()

    # -- another process may take the stream over

    @property
    def is_open(self) -> bool:
        return not (self._closing or self._transport.is_closing())

    @property
    def is_busy(self) -> bool:
        return self._attachment.is_busy

    @property
    def is_settled(self) -> bool:
        return self._attachment.is_settled

    def hold(self) -> None:
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def suspend(self) -> None:
        self._attachment.suspend()

    def proceed(self) -> None:
        self._attachment.proceed()

    def let_go(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def record(self) -> StreamRecord | None:
        if not (self.is_open and self.is_settled and is_movable(self._transport)):
            return None
        return StreamRecord(StreamKind.SSE, self._attachment.connection.id, None)

    def continue_from(self, record: StreamRecord) -> None:
        """Continue a stream of another process; the first byte is read later."""
        self._transport.set_write_buffer_limits(high=self._streams.settings.outbox_bytes)
        self._attachment.continue_elsewhere()

    def leave(self) -> None:
        self._streams.heartbeat.remove(self, self._slot)
        drop_descriptor(self._transport)
        del self._attachment

    def descriptor(self) -> int:
        return descriptor_of(self._transport)

    def _detach(self, code: int | None, reason: str) -> None:
        self._attachment.ended(self._streams.grace_s(self._attachment.connection), code, reason)

    def data_received(self, data: bytes) -> None:
        self._inbound_left -= len(data)
        if self._inbound_left < 0:
            self._transport.abort()

    def pause_writing(self) -> None:
        self._paused = True
        self._attachment.pause()

    def resume_writing(self) -> None:
        self._paused = False
        self._last_progress = None
        self._attachment.resume()

    def eof_received(self) -> bool:
        """The client has closed its side."""
        return self._streams.closing.close(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._streams.heartbeat.remove(self, self._slot)
        if self._close_timer is not None:
            self._close_timer.cancel()
        self._detach(None, LINE_LOST)
        # The two refer to each other, and the garbage collector runs rarely. No one calls a stream whose socket is lost.
        del self._attachment

    def beat(self) -> None:
        """Send an empty list; drop a client that has acknowledged nothing for a ping interval."""
        self._beats += 1
        if self._beats % self._streams.ping_every == 0 and not self._is_alive():
            self._transport.abort()
        elif not self._paused and not self._closing:
            self.write(self.session.heartbeat)

    def _is_alive(self) -> bool:
        """Whether the client has acknowledged bytes since the last call, or all bytes."""
        before, self._last_progress = self._last_progress, ack_progress(self._transport)
        return before is None or self._last_progress is None or self._last_progress > before
