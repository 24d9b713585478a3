"""Server-sent events: a plain asyncio protocol that writes prebuilt blocks after the head of the answer.

The end of the connection ends the body, and not a chunk or a length (RFC 9112, 6.3), so a block has the same bytes
for every stream.
"""

import asyncio

from channelstream.close_codes import CloseCode
from channelstream.core.connection import Connection
from channelstream.http.closing import close_transport
from channelstream.http.line import ack_progress
from channelstream.transports.attachment import LINE_LOST
from channelstream.transports.moving import StreamKind
from channelstream.transports.socket_stream import SocketStream
from channelstream.transports.streams import Streams
from channelstream.wire.framing import Framing

INBOUND_BYTES = 4096
"""Most bytes that a client may send after its request, of no use here; with more, the stream is dropped."""
CLOSE_TIMEOUT_S = 2.0
"""Time in which a client must read the last event before the socket is dropped, in seconds."""


class SSEStream(SocketStream):
    """One event stream after its request."""

    __slots__ = ("_inbound_left",)

    def __init__(self, streams: Streams, transport: asyncio.Transport, connection: Connection) -> None:
        super().__init__(streams, transport, connection, Framing.SSE)
        self._inbound_left = INBOUND_BYTES

    @property
    def kind(self) -> StreamKind:
        return StreamKind.SSE

    def close(self, code: CloseCode | int | None, reason: str) -> None:
        """Send the reason as the last event, and end the body."""
        if not self._closing:
            self._closing = True
            self._detach(code, reason)
            self.write(self.session.closing(code, reason))
            close_transport(self._transport)
            self._close_timer = asyncio.get_running_loop().call_later(CLOSE_TIMEOUT_S, self._transport.abort)

    def data_received(self, data: bytes) -> None:
        self._inbound_left -= len(data)
        if self._inbound_left < 0:
            self._transport.abort()

    def resume_writing(self) -> None:
        self._paused = False
        self._last_progress = None
        self._attachment.resume()

    def eof_received(self) -> bool:
        """The client has closed its side."""
        return self._streams.closing.close(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
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
            self._write_without_event(self.session.heartbeat)

    def _is_alive(self) -> bool:
        """Whether the client has acknowledged bytes since the last call, or all bytes."""
        before, self._last_progress = self._last_progress, ack_progress(self._transport)
        return before is None or self._last_progress is None or self._last_progress > before
