"""WebSocket streams: prebuilt frames out, a bounded RFC 6455 reader in.

A plain asyncio protocol on the transport of the handshake. Measured: 1.5 KB for an idle stream; picows takes 8.4 KB,
as each stream has a read buffer.

A stream ends in one of four ways, and each must record the ending and detach the connection exactly once
(`Attachment.ended`): the server closes it (`close`), the client sends a close frame, the client breaks the protocol
(`_fail`), or the socket is lost. They can come in any order, and in one loop turn for thousands of clients.

- What a text asks for is carried out before anything further is read (`client_commands.py`).
- Frames are read, and close frames of clients handled, for a few clients in each loop turn (`Streams.inbound`,
  `Streams.closing`). A live stream whose close frame waits is written nothing more: its client may have closed the
  socket, and would answer with a reset. A stream that catches up is ended at once, since its catch-up would go on
  writing.
- A lost socket ends its stream at once: a write to it raises (uvloop). The bytes received before are read first, since a
  close frame with 1000 among them ends the connection, while a lost socket only detaches it.
"""

import asyncio
from collections.abc import Iterator
from itertools import chain
from typing import assert_never

from channelstream.close_codes import CloseCode
from channelstream.core.connection import Connection
from channelstream.http.closing import close_transport
from channelstream.http.line import ack_progress, is_tls
from channelstream.transports.attachment import CLOSED_BY_CLIENT, LINE_LOST
from channelstream.transports.moving import StreamKind, StreamRecord
from channelstream.transports.socket_stream import SocketStream
from channelstream.transports.streams import Streams
from channelstream.wire.deflate import inflate
from channelstream.wire.frame_head import FrameError, Opcode
from channelstream.wire.frame_reader import Close, Data, FrameReader, Inbound, Ping, Pong
from channelstream.wire.frames import PING, close_frame, pong_frame
from channelstream.wire.framing import Framing
from channelstream.wire.unfinished import Unfinished

CLOSE_TIMEOUT_S = 2.0
"""Time in which the client must answer a close frame before the socket is dropped, in seconds (RFC 6455, 7.1.1)."""
TURN_S = 0.001
"""Longest time for which the bytes of one client are read in one loop turn, in seconds."""
LARGE_CHUNK_BYTES = 65_536
"""Reading pauses for a loop turn after a chunk of this size: uvloop reads up to 32 full buffers of one socket in a row."""
LINGER_S = 0.25
"""Time for which the bytes of a client that broke the protocol are still read and discarded, in seconds."""


class WebSocketStream(SocketStream):
    """One WebSocket after its handshake."""

    __slots__ = (
        "_client_close",
        "_has_left",
        "_is_responsive",
        "_linger_timer",
        "_most_silent",
        "_pinged",
        "_reader",
        "_reading",
        "_silent",
    )

    def __init__(
        self,
        streams: Streams,
        transport: asyncio.Transport,
        connection: Connection,
        deflate: bool,
        state: bytes = b"",
    ) -> None:
        """Create the stream of a connection.

        Args:
            deflate: messages may be compressed.
            state: as of `SocketStream`.

        Raises:
            ValueError: as of `SocketStream`.
        """
        framing = Framing.DEFLATE if deflate else Framing.WEBSOCKET
        super().__init__(streams, transport, connection, framing, state)
        rules = self.session.rules
        self._reader = FrameReader(streams.limits_of(rules), inflate if deflate else None)
        self._silent = 0
        """Heartbeats since the client has sent anything."""
        self._most_silent = streams.beats_in(rules.silence)
        """After how many of them the line is closed; 0 for never."""
        self._reading: Iterator[Inbound | None] | None = None
        self._is_responsive = self._pinged = self._has_left = False
        self._client_close: Close | None = None
        """The close frame of the client, until it is handled."""
        self._linger_timer: asyncio.TimerHandle | None = None
        """Set if the client broke the protocol: its further bytes are discarded."""

    def close(self, code: CloseCode | int | None, reason: str) -> None:
        """Send a close frame, then wait for that of the client, for `CLOSE_TIMEOUT_S` at most."""
        if self._closing or self._transport.is_closing():
            return
        self._closing = True
        self._detach(code, reason)
        self.write(self.session.closing(code, reason))
        self._close_timer = asyncio.get_running_loop().call_later(CLOSE_TIMEOUT_S, self._transport.abort)

    # -- another process may take the stream over

    @property
    def kind(self) -> StreamKind:
        return StreamKind.DEFLATE if self._reader.inflates else StreamKind.WEBSOCKET

    @property
    def is_open(self) -> bool:
        return not (self._linger_timer or self._client_close) and super().is_open

    @property
    def is_settled(self) -> bool:
        return self._reading is None and super().is_settled

    def let_go(self) -> None:
        if self._reading is None:
            super().let_go()

    def unfinished(self) -> Unfinished | None:
        return self._reader.unfinished()

    def continue_from(self, record: StreamRecord) -> None:
        if record.unfinished is not None:
            self._reader.continue_from(record.unfinished)
        super().continue_from(record)

    # -- what the client sends

    def data_received(self, data: bytes) -> None:
        if self._linger_timer is not None:
            return
        is_large = len(data) >= LARGE_CHUNK_BYTES
        self._is_responsive = True
        self._silent = 0
        reading = self._reader.feed(data)
        if self._reading is not None:
            # Two chunks at most: the transport had read the second one before it was paused, or is paused now.
            self._reading = chain(self._reading, reading)
            self._pause_reading()
        elif not self._streams.inbound.has_room():
            self._reading = reading
            if is_large:
                self._pause_reading()
            self._streams.inbound.put(self._continue_reading)
        elif self._read_slice(reading) or is_large:
            self._reading = reading
            self._continue_later()

    def _pause_reading(self) -> None:
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def _continue_later(self) -> None:
        self._pause_reading()
        if not self._attachment.is_busy:
            self._read_later()

    def _read_later(self) -> None:
        self._streams.inbound.put(self._continue_reading)

    def _continue_reading(self) -> None:
        """Continue with bytes that an earlier loop turn left."""
        if self._reading is not None and self._read_slice(self._reading):
            self._continue_later()
            return
        self._reading = None
        if self._has_left:
            self._streams.closing.close(self._transport)
        elif not (self._transport.is_closing() or self._streams.is_held):
            self._transport.resume_reading()

    def _read_slice(self, reading: Iterator[Inbound | None]) -> bool:
        """Read bytes of the client for `TURN_S` at most; return whether there are more."""
        now_s = self._streams.node.clock.steady
        until_s = now_s() + TURN_S
        try:
            for event in reading:
                match event:
                    case Ping():
                        if not (self._paused or self._closing or self._transport.is_closing()):
                            self.write(pong_frame(event.payload))
                    case Close():
                        self._client_close = event
                        if self._attachment.discard_pending():
                            self._streams.closing.end(self._closed_by_client)
                        else:
                            self._closed_by_client()
                    case Data():
                        if self._receive(event):
                            return True
                    case Pong() | None:
                        pass  # `data_received` has noted that this client is there.
                    case _:
                        assert_never(event)
                if now_s() >= until_s:
                    return True
        except FrameError as error:
            self._fail(error.code, error.reason)
        return False

    def _receive(self, message: Data) -> bool:
        """Begin what a text of the client asks for; return whether reading waits until it is done.

        A binary message asks for nothing.
        """
        if self._closing or self._transport.is_closing():
            return False
        if message.opcode is not Opcode.TEXT:
            if not self.session.rules.takes_binary:
                self._fail(CloseCode.UNSUPPORTED_DATA, "messages are text here")
            return False
        return self.receive_text(message.payload)

    def receive_text(self, text: bytes | bytearray) -> bool:
        """Begin what a text of the client asks for; return whether reading waits until it is done."""
        return self._attachment.receive(self.actions, text, self._read_later)

    def read_on(self, reader: FrameReader, reading: Iterator[Inbound | None] | None, text: bytes) -> None:
        """Continue to read what the client has sent before its stream was open; the socket is paused.

        Args:
            reader: has read so far.
            reading: what it has not read yet; None for nothing.
            text: is carried out first.
        """
        self._reader, self._reading = reader, reading
        if not self.receive_text(text):
            self._read_later()

    def _closed_by_client(self) -> None:
        close, self._client_close = self._client_close, None
        if close is None:
            return  # It was handled when the socket was lost.
        says_good_bye = close.code == CloseCode.NORMAL and self._attachment.is_current
        if not self._closing:
            self._closing = True
            self._detach(close.code, CLOSED_BY_CLIENT)
            if not self._transport.is_closing():  # Else it may be lost, and the loop refuses writes.
                self.write(close_frame(close.code))
        if says_good_bye:
            self._attachment.left()
        close_transport(self._transport)

    def _fail(self, code: CloseCode, reason: str) -> None:
        """End the stream for a fault of the client.

        Its further bytes are read and discarded for `LINGER_S`: to close a socket with unread bytes would reset it,
        and the reset may overtake the close frame.
        """
        if self._linger_timer is None:
            self._linger_timer = asyncio.get_running_loop().call_later(
                LINGER_S, close_transport, self._transport
            )
            self.close(code, reason)

    # -- the transport

    def resume_writing(self) -> None:
        self._paused = False
        self._is_responsive = True
        self._attachment.resume()

    def eof_received(self) -> bool:
        """The client has closed its side, without a close frame or after ours."""
        if self._reading is not None and not is_tls(self._transport):
            self._has_left = True  # The unread bytes may have a close frame.
            return True
        return self._streams.closing.close(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for timer in (self._close_timer, self._linger_timer):
            if timer is not None:
                timer.cancel()
        unread, self._reading = self._reading, None
        if unread is not None:
            self._read_slice(unread)  # There may be a close frame.
        self._closed_by_client()
        self._detach(None, LINE_LOST)
        # The two refer to each other, and the garbage collector runs rarely. No one calls a stream whose socket is lost.
        del self._attachment

    # -- the timer

    def beat(self) -> None:
        """Send `[]`, which old clients expect, and every few times a ping; drop a client that does not respond."""
        self._beats += 1
        if self._most_silent and self._has_been_silent():
            return
        if self._pinged and not self._is_responsive:
            self._is_responsive = self._waits_for_server or self._is_moving()
        ping = self._beats % self._streams.ping_every == 0
        if ping:
            self._reader.renew()
            if self._pinged and not self._is_responsive and not self._may_be_silent:
                # Since the last ping the client has neither sent nor acknowledged anything: it is gone or stuck.
                self._transport.abort()
                return
            self._pinged, self._is_responsive = True, False
        data = self.session.heartbeat + PING if ping else self.session.heartbeat
        if data and not self._paused and not self._closing:
            self._write_without_event(data)
        if ping:
            self._last_progress = ack_progress(self._transport)

    @property
    def _may_be_silent(self) -> bool:
        """Whether the client has acknowledged all bytes, in a protocol with a bound of its own for how long it is silent."""
        return self._most_silent > 0 and ack_progress(self._transport) is None

    def _has_been_silent(self) -> bool:
        """Whether the client has been silent for longer than its protocol allows; closes its line then.

        While it reads slowly, its pongs are late as well.
        """
        self._silent += not self._paused
        silence = self.session.rules.silence
        if silence is None or self._silent <= self._most_silent or self._waits_for_server:
            return False
        self.close(silence.code, silence.reason)
        return True

    @property
    def _waits_for_server(self) -> bool:
        """Whether its pong may be unread, behind a text whose commands are carried out."""
        return not self._paused and not self._transport.is_closing() and self._attachment.is_busy

    def _is_moving(self) -> bool:
        """Whether the client acknowledges bytes: it cannot answer in time a ping behind megabytes of events."""
        before, self._last_progress = self._last_progress, ack_progress(self._transport)
        return before is not None and self._last_progress is not None and self._last_progress > before
