"""Continues the streams that another process hands over with their sockets (`moving.py`)."""

import asyncio
import logging
from typing import assert_never

from msgspec.structs import replace

from channelstream.close_codes import CloseCode
from channelstream.core.connection import Connection
from channelstream.http.closing import close_within
from channelstream.transports.moving import StreamKind, StreamRecord, moved_client
from channelstream.transports.socket_stream import SocketStream
from channelstream.transports.sse import SSEStream
from channelstream.transports.streams import Streams
from channelstream.transports.websocket import CLOSE_TIMEOUT_S, WebSocketStream
from channelstream.wire.frame_head import FrameError

logger = logging.getLogger(__name__)


class ContinuedStream(asyncio.Protocol):
    """The first protocol of a socket that another process hands over with its stream."""

    def __init__(self, streams: Streams, record: StreamRecord) -> None:
        self._streams = streams
        self._record = record

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        try:
            self._continue(transport)
        except Exception:
            # The loop would leave the socket open, and its client without a word: if it ends, the client comes back.
            logger.exception("a stream of another process cannot be continued")
            transport.abort()

    def _continue(self, transport: asyncio.Transport) -> None:
        # Here and not later: the loop reads from now on, and calls the protocol that the socket has then.
        fresh = self._streams.arriving.get(self._record.conn_id)
        if fresh is not None:
            self._record = replace(self._record, client=moved_client(fresh))
        connection = self._streams.node.connection(self._record.conn_id)
        if connection is None:
            transport.abort()
            return
        try:
            stream = self._stream(transport, connection)
        except ValueError:
            self._refuse(transport, connection)
            return
        transport.set_protocol(stream)
        if self._streams.services.owner_id(connection.id) is None:
            stream.close(CloseCode.UNKNOWN_CONNECTION, "its application is no longer configured")
            return
        if connection.stream is not None:
            stream.close(CloseCode.REPLACED, "replaced by a newer stream of this connection")
            return
        try:
            stream.continue_from(self._record)
        except (FrameError, ValueError):
            stream.close(CloseCode.RESTARTING, "the server restarts")

    def _stream(self, transport: asyncio.Transport, connection: Connection) -> SocketStream:
        """Return the stream that continues.

        Raises:
            ValueError: the application does not speak the protocol any more, or its session has left another state.
        """
        kind, state = self._record.kind, self._record.state
        match kind:
            case StreamKind.SSE:
                return SSEStream(self._streams, transport, connection)
            case StreamKind.WEBSOCKET | StreamKind.DEFLATE:
                return WebSocketStream(
                    self._streams, transport, connection, kind is StreamKind.DEFLATE, state
                )
            case _:
                assert_never(kind)

    def _refuse(self, transport: asyncio.Transport, connection: Connection) -> None:
        closing = self._streams.protocols.closing_of(
            connection.protocol, CloseCode.RESTARTING, "the server restarts"
        )
        transport.write(closing)
        close_within(transport, CLOSE_TIMEOUT_S)
