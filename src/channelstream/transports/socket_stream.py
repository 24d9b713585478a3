"""A stream that has a socket of its own: what WebSockets and event streams share.

A plain asyncio protocol on the transport of the request. Another process may take such a stream over (`moving.py`): it is
held, suspended, and then either left to the other process or let go and continued here.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from math import ceil
from typing import Final

from channelstream.apps.client import Client
from channelstream.close_codes import CloseCode
from channelstream.core.connection import Connection
from channelstream.core.format import Format
from channelstream.core.http_head import RequestHead
from channelstream.http.lent_socket import LentSocket, lent_socket
from channelstream.http.moving import descriptor_of, drop_descriptor, end_for_all, is_movable
from channelstream.transports.attachment import Attachment
from channelstream.transports.client_actions import ClientActions
from channelstream.transports.moving import Copied, StreamKind, StreamRecord, client_from, moved_client
from channelstream.transports.reading import Change
from channelstream.transports.streams import Streams
from channelstream.wire.commanding import CommandSession, expiring_item
from channelstream.wire.framing import Framing
from channelstream.wire.unfinished import Unfinished

EXPIRING_S: Final = 25.0
"""How long before its token expires a client is warned, in seconds."""
EXPIRY_RETRY_S: Final = 1.0
"""Time after which a stream that could not be ended when its token expired is ended, in seconds."""


class SocketStream(asyncio.Protocol, ABC):
    """One stream on its socket; `record`, `leave` and `suspend` only while it `is_open`."""

    __slots__ = (
        "_attachment",
        "_beats",
        "_close_timer",
        "_closing",
        "_expiry",
        "_last_progress",
        "_paused",
        "_slot",
        "_socket",
        "_streams",
        "_transport",
        "client",
        "session",
    )

    def __init__(
        self,
        streams: Streams,
        transport: asyncio.Transport,
        connection: Connection,
        framing: Framing,
        state: bytes = b"",
    ) -> None:
        """Create the stream of a connection.

        Args:
            state: of its session, as `SessionStart.state`.

        Raises:
            ValueError: the application of the connection does not speak its protocol.
        """
        self._streams = streams
        self._transport = transport
        self._socket: LentSocket | None = None
        self.session = streams.session_of(connection, framing, state)
        self._attachment = Attachment(streams.node, connection, self)
        self._slot = streams.heartbeat.add(self)
        self._beats = 0
        self._last_progress: int | None = None
        self._paused = self._closing = False
        self._close_timer: asyncio.TimerHandle | None = None
        self.client: Client | None = None
        """What the token of its client says; None if it was opened without one."""
        self._expiry: asyncio.TimerHandle | None = None

    def admit(self, client: Client, greeting: Sequence[bytes] = ()) -> None:
        """Take what a token says: the stream ends when it expires, and its client is warned before.

        Args:
            client: as the token says.
            greeting: items that the stream is sent before everything else.
        """
        self.client = client
        if isinstance(self.session, CommandSession):
            self.session.greeting, self.session.max_faults = greeting, self._streams.rules.max_faults
        self._expire_later(max(0.0, self._left_s(client) - EXPIRING_S), partial(self._warn, client))

    def _warn(self, client: Client) -> None:
        left_s = self._left_s(client)
        if self.is_open and self._attachment.is_current:
            # A timer may end a little early.
            seconds = min(ceil(left_s), ceil(EXPIRING_S))
            self.write(self.session.format.enclose([expiring_item(seconds)], None))
        self._expire_later(left_s, self._expire)

    def _left_s(self, client: Client) -> float:
        return client.left_s(self._streams.node.clock.wall())

    def _expire(self) -> None:
        if self._attachment.is_current:
            self.close(CloseCode.TOKEN_EXPIRED, "token expired")
        else:  # It is suspended while another process may take it over, or about to be closed.
            self._expire_later(EXPIRY_RETRY_S, self._expire)

    def _expire_later(self, seconds: float, call: Callable[[], None]) -> None:
        self._stop_expiry()
        if self._transport.is_closing():
            return  # It may be lost, and have no attachment any more: a fresh token was still being checked.
        self._expiry = asyncio.get_running_loop().call_later(seconds, call)

    def _stop_expiry(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None

    def actions(self) -> ClientActions:
        """Return what its client can do by commands."""
        return self._streams.actions(self._attachment.connection, self.client, self.admit)

    def begin(self, request: RequestHead, since: str | None, head: bytes, rest: bytes) -> None:
        """Open on a socket that has left HTTP.

        Args:
            request: that has asked for the stream.
            since: as in `open`.
            head: as in `open`.
            rest: bytes that the client has sent after its request.
        """
        self._transport.set_protocol(self)
        self._streams.note_client(self._attachment.connection, request)
        self.open(since, head)
        if rest:
            self.data_received(rest)

    def open(self, since: str | None, head: bytes = b"") -> None:
        """Attach to the connection.

        Args:
            since: the position in the request, as in `Attachment.start`.
            head: the head of the answer.
        """
        self._transport.set_write_buffer_limits(high=self._streams.settings.outbox_bytes)
        self._attachment.open(since, head)

    @property
    def format(self) -> Format:
        return self.session.format

    def write(self, data: bytes) -> None:
        """Write after all that was written before.

        From then on the flush writes to the socket itself, as long as the transport has no bytes that wait.
        """
        transport, connection = self._transport, self._attachment.connection
        transport.write(data)
        if connection.stream is self and not transport.is_closing():
            connection.write = self.write if transport.get_write_buffer_size() else self._direct_write()

    def _direct_write(self) -> Callable[[bytes], int | None]:
        if self._socket is None:
            self._socket = lent_socket(self._transport)
        return self._transport.write if self._socket is None else self._socket.send

    def _return_socket(self) -> None:
        """Write nothing more to the socket itself, whose descriptor will be that of another client."""
        if self._socket is not None:
            self._socket.detach()
            self._socket = None

    def write_first(self, data: bytes) -> None:
        self._write_without_event(data)

    def _write_without_event(self, data: bytes) -> None:
        """Write as `write` does; an idle stream, which is sent nothing else, borrows no socket."""
        self._transport.write(data)
        if self._transport.get_write_buffer_size() and self._attachment.is_current:
            self._attachment.connection.write = self.write

    def caught_up(self) -> None:
        """Nothing to do: everything has been written."""

    @abstractmethod
    def close(self, code: CloseCode | int | None, reason: str) -> None:
        """End the stream, and send the client the reason."""

    @abstractmethod
    def beat(self) -> None:
        """Send a heartbeat; drop a client that does not respond."""

    def _detach(self, code: int | None, reason: str) -> None:
        """Detach the connection: nothing may follow a close frame (RFC 6455, 5.5.1), so later events wait in the log."""
        self._attachment.ended(self._streams.grace_s(self._attachment.connection), code, reason)

    async def change(self, make: Callable[[], Awaitable[Change]]) -> None:
        """Change what the stream receives (`Attachment.change`)."""
        await self._attachment.change(make)

    def buffered_bytes(self) -> int:
        """Return the written bytes that the kernel has not taken yet."""
        return self._transport.get_write_buffer_size()

    def pause_writing(self) -> None:
        self._paused = True
        self._attachment.pause()

    # -- another process may take the stream over

    @property
    @abstractmethod
    def kind(self) -> StreamKind: ...

    @property
    def is_open(self) -> bool:
        """Whether neither side closes it."""
        return not (self._closing or self._transport.is_closing())

    @property
    def is_busy(self) -> bool:
        """Whether a command of its client is carried out."""
        return self._attachment.is_busy

    @property
    def is_settled(self) -> bool:
        """Whether it needs nothing but the log to continue, and all that was read is carried out."""
        return self._attachment.is_settled

    def hold(self) -> None:
        """Read nothing more, until `let_go`."""
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def let_go(self) -> None:
        """Read again after `hold`: what goes on here, and what is closed here, whose client answers the close frame."""
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def suspend(self) -> None:
        """Write nothing more, until `proceed`."""
        self._attachment.suspend()

    def proceed(self) -> None:
        """Continue from the position of the connection."""
        self._attachment.proceed()

    @property
    def is_movable(self) -> bool:
        """Whether another process can take the stream over as it is now."""
        return self.is_open and self.is_settled and is_movable(self._transport)

    def record(self, unfinished: Unfinished | None) -> StreamRecord:
        """Return what another process needs of a stream that is movable, with what its client has begun to send."""
        moved = None if self.client is None else moved_client(self.client)
        state = self.session.state
        return StreamRecord(self.kind, self._attachment.connection.id, unfinished, moved, state)

    def copied(self, number: int) -> Copied:
        """Return what is known of the record of this number: equal to what it was as long as the record holds."""
        return Copied(number, self.client, self.session.state)

    def unfinished(self) -> Unfinished | None:
        """Return what the client has begun to send."""
        return None

    def descriptor(self) -> int:
        """Return the descriptor of the socket."""
        return descriptor_of(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._return_socket()
        self._stop_expiry()
        self._streams.heartbeat.remove(self, self._slot)
        if self in self._streams.copied:
            end_for_all(self._transport)

    def leave(self) -> None:
        """Forget the stream, which is another process's, and close the descriptor without a word to the client."""
        self._return_socket()
        self._stop_expiry()
        self._streams.heartbeat.remove(self, self._slot)
        drop_descriptor(self._transport)
        del self._attachment

    def continue_from(self, record: StreamRecord) -> None:
        """Continue a stream of another process; the first byte is read later.

        Raises:
            FrameError, ValueError: the record is not what a stream has left.
        """
        self._transport.set_write_buffer_limits(high=self._streams.settings.outbox_bytes)
        if record.client is not None:
            app = self._streams.services.owner(record.conn_id).app
            self.admit(client_from(record.client, app))
        self._attachment.continue_elsewhere()
        self._streams.node.revocations.moved_here(self._attachment.connection)
