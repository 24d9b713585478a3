"""A WebSocket that was opened without a connection: its first text has the token of its client.

Until then it is no stream, and costs its socket and a timer. It counts among the open sockets, and ends after
`unattached_timeout_s`.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from itertools import chain
from typing import assert_never

from msgspec import Raw

from channelstream.close_codes import CloseCode
from channelstream.core.http_head import RequestHead
from channelstream.errors import ChannelstreamError, Internal
from channelstream.http.closing import close_within
from channelstream.transports.streams import Streams
from channelstream.transports.token_admission import Asked, TokenAdmission
from channelstream.transports.websocket import CLOSE_TIMEOUT_S, WebSocketStream
from channelstream.wire.client_commands import Action
from channelstream.wire.command_texts import Connect, Fault, read_command, read_objects
from channelstream.wire.commanding import RULES
from channelstream.wire.deflate import inflate
from channelstream.wire.frame_head import FrameError, Opcode
from channelstream.wire.frame_reader import Close, Data, FrameReader, Inbound, Ping, Pong
from channelstream.wire.frames import close_frame, pong_frame

logger = logging.getLogger(__name__)


class FirstText(asyncio.Protocol):
    """Waits for the command `connect`, then opens the stream."""

    def __init__(
        self,
        streams: Streams,
        admission: TokenAdmission,
        transport: asyncio.Transport,
        head: RequestHead,
        deflate: bool,
        on_refusal: Callable[[ChannelstreamError], None],
    ) -> None:
        """Wait on the socket of a handshake that is answered.

        Args:
            head: of the request.
            deflate: the client may compress its messages.
            on_refusal: called if its token opens no stream.
        """
        self._streams = streams
        self._admission = admission
        self._transport = transport
        self._head = head
        self._deflate = deflate
        self._on_refusal = on_refusal
        self._reader = FrameReader(streams.limits_of(RULES), inflate if deflate else None)
        self._reading: Iterator[Inbound | None] | None = None
        self._is_connecting = self._is_closing = False
        wait_s = streams.node.limits.unattached_s
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._time_out)
        streams.waiting.add(self)

    def data_received(self, data: bytes) -> None:
        if self._is_closing:
            return
        if self._is_connecting:
            # What the transport had read before it was paused.
            self._reading = chain(self._reading or (), self._reader.feed(data))
            return
        reading = self._reader.feed(data)
        try:
            for event in reading:
                match event:
                    case Ping():
                        self._transport.write(pong_frame(event.payload))
                    case Close():
                        self.close(event.code, "")
                        return
                    case Data():
                        if event.opcode is Opcode.TEXT and self._read(event.payload):
                            self._reading = reading
                            return
                    case Pong() | None:
                        pass
                    case _:
                        assert_never(event)
                if self._is_closing:
                    return
        except FrameError as error:
            self.close(error.code, error.reason)

    def _read(self, text: bytes | bytearray) -> bool:
        """Read a text; return whether it has a token, so that nothing more is read until the stream is open."""
        found, rest = _read_first(text)
        if found is None:
            return False
        if not isinstance(found, Connect):
            self.close(CloseCode.POLICY_VIOLATION, "the first command is connect, with a token")
            return False
        self._is_connecting = True
        self._transport.pause_reading()
        self._streams.run(self._connect(found, b"[%b]" % b",".join(rest)), has_socket=True)
        self._stop_waiting()
        return True

    async def _connect(self, connect: Connect, rest: bytes) -> None:
        asked = Asked(connect.token, connect.conn_id, connect.since, connect.id)
        try:
            admitted = await self._admission.admit(asked, self._head)
            if self._transport.is_closing():
                return  # The connection expires as any without a stream does.
            stream = WebSocketStream(self._streams, self._transport, admitted.connection, self._deflate)
            self._transport.set_protocol(stream)
            self._streams.note_client(admitted.connection, self._head)
            stream.admit(admitted.client, admitted.greeting)
            stream.open(connect.since)
            stream.read_on(self._reader, self._reading, rest)
        except ChannelstreamError as error:
            self._refuse(error)
        except Exception:
            logger.exception("a WebSocket could not be opened with a token")
            self._refuse(Internal())

    def _refuse(self, error: ChannelstreamError) -> None:
        if not self._transport.is_closing():
            self._on_refusal(error)
        self.close(error.refusal_code, error.message)

    def close(self, code: CloseCode | int | None, reason: str) -> None:
        """Send a close frame and close the socket."""
        self._stop_waiting()
        if self._is_closing or self._transport.is_closing():
            return
        self._is_closing = True
        self._transport.write(close_frame(code, reason))
        close_within(self._transport, CLOSE_TIMEOUT_S)

    def _time_out(self) -> None:
        self.close(CloseCode.UNKNOWN_CONNECTION, "no token came in time")

    def _stop_waiting(self) -> None:
        self._timer.cancel()
        self._streams.waiting.discard(self)

    def eof_received(self) -> None:
        """The client has closed its side: the socket is closed."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()


def _read_first(
    text: bytes | bytearray,
) -> tuple[Action | Connect | Fault | None, list[Raw | bytes | bytearray]]:
    """Return what the first object of a text asks for, None for nothing, and the objects after it."""
    objects = read_objects(text)
    if isinstance(objects, Fault):
        return objects, []
    each = list(objects)
    return (read_command(each[0]) if each else None), each[1:]
