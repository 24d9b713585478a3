"""What all transports share: a stream attaches to a connection, is paused and resumed, and is lost.

A stream writes bytes to one client. An attachment is the life of one stream with its connection: from `start`
until the stream is closed, lost, or replaced by a newer one. What a client is sent before its stream is live is
read from the log (`catch_up.py`): when it opens (`first_catch_up.py`), and whenever it was too slow.

After each `await`, work for a stream continues only if `is_current`: meanwhile the stream may be lost, or a newer
stream of the connection may have attached.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine

from channelstream.close_codes import CloseCode
from channelstream.core.batch import DISCARD, BufferBatch
from channelstream.core.connection import Connection, ConnectionState
from channelstream.core.position import Offsets, min_offsets
from channelstream.errors import Unavailable
from channelstream.http.eager import run_eagerly
from channelstream.service import Node
from channelstream.transports.at_once import first_bytes
from channelstream.transports.catch_up import CatchUp
from channelstream.transports.client_actions import ClientActions
from channelstream.transports.client_commands import carry_out
from channelstream.transports.first_catch_up import catch_up_first
from channelstream.transports.reading import NO_CHANGE, AttachedStream, Change
from channelstream.wire.client_session import ClientSession

logger = logging.getLogger(__name__)

CLOSED_BY_CLIENT = "closed by the client"
LINE_LOST = "the line was lost"

BUFFERED_ENTRIES = 1000
"""Live entries buffered for a connection while the log is read; if there are more, the log is read again."""


class Attachment:
    """The life of one stream with its connection.

    Attributes:
        is_paused: whether the transport is full.
    """

    __slots__ = (
        "_change",
        "_commands",
        "_delivered_when_lost",
        "_drained",
        "_has_ended",
        "_is_settled",
        "_task",
        "connection",
        "is_paused",
        "node",
        "stream",
    )

    def __init__(self, node: Node, connection: Connection, stream: AttachedStream) -> None:
        self.connection = connection
        self.node = node
        self.stream = stream
        # `connection.delivered` at the moment when the connection lost this stream.
        self._delivered_when_lost: Offsets | None = None
        self.is_paused = self._has_ended = self._is_settled = False
        self._drained: asyncio.Event | None = None
        self._task: asyncio.Task[None] | None = None
        # Carries out what a text of the client asks for; None between two texts.
        self._commands: asyncio.Task[None] | None = None
        # Done when the change under way is made; None if there is none.
        self._change: asyncio.Future[None] | None = None

    @property
    def session(self) -> ClientSession:
        return self.stream.session

    @property
    def is_busy(self) -> bool:
        """Whether the commands of a text are carried out."""
        return self._commands is not None

    @property
    def is_settled(self) -> bool:
        """Whether it needs nothing but the log to continue: it has caught up once, and carries out no commands."""
        return self._is_settled and not self.is_busy

    @property
    def is_current(self) -> bool:
        """Whether the connection still has this stream."""
        return self.connection.stream is self.stream

    def open(self, since: str | None, head: bytes = b"") -> None:
        """Attach as `start` does, and go live at once if the client misses nothing (`at_once.py`).

        Args:
            since: as in `start`.
            head: what the transport writes before everything else. All that is written at once is one write.
        """
        self._attach_stream()
        session = self.stream.session
        head += session.opened(self.connection.id)
        first = first_bytes(self, session, since)
        if first is None:
            self._catch_up(since, head)
            return
        self._is_settled = True
        self.node.hub.go_live(self.connection, ())
        if data := head + first:
            self.stream.write_first(data)

    def start(self, since: str | None) -> None:
        """Attach: close the older stream of the connection, catch up, then go live.

        Args:
            since: the position the client asks to resume from; empty if the client has none yet, None if the
                client is of an older generation and cannot resume.
        """
        self._attach_stream()
        self._catch_up(since, self.session.opened(self.connection.id))

    def _catch_up(self, since: str | None, first: bytes) -> None:
        buffer = self.connection.batch = self._buffer(BUFFERED_ENTRIES)
        if first:
            self.stream.write_first(first)
        self._run(self._attach(buffer, since))

    def _buffer(self, limit: int, since: Offsets = ()) -> BufferBatch:
        """Return a batch that buffers from now on; the caller gives it to the connection in this turn.

        Args:
            since: as of `BufferBatch`; the position of the node where the stream was live until now.
        """
        return BufferBatch(limit, since, self.node.hub.changes.number)

    def _attach_stream(self) -> None:
        """Attach to the connection; the caller lets no event arrive until it has given it another batch."""
        older = self.connection.stream
        self.node.hub.attach(self.connection, self.stream, DISCARD)
        self.node.local.attached(self.connection)
        # Close the older stream only now: a stream that is closed while it is current detaches the
        # connection.
        if older is not None:
            older.close(CloseCode.REPLACED, "replaced by a newer stream of this connection")

    def suspend(self) -> None:
        """Write nothing more; `connection.delivered` is valid afterwards, and `proceed` continues from it."""
        if not self.is_current:
            return
        self.node.hub.stop_writing(self.connection)
        self.node.hub.detach(self.connection, 0.0)
        self.connection.deadline_s = None
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def continue_elsewhere(self) -> None:
        """Continue a stream that another process has suspended."""
        self._is_settled = True
        self.node.local.attached(self.connection)
        self.proceed()

    def proceed(self) -> None:
        """Continue after `suspend`, from the position in the log.

        A stream is closed that had not caught up once, or whose log was replaced meanwhile. So is that of a connection which
        another node has ended or taken over meanwhile: its client finds out which when it comes back.
        """
        if self.connection.state is ConnectionState.CLOSED:
            self.stream.close(CloseCode.RESTARTING, "the server restarts")
            return
        buffer = self._buffer(BUFFERED_ENTRIES)
        # Also one that is closed: its connection gets a deadline.
        self.node.hub.attach(self.connection, self.stream, buffer)
        if not self._is_settled:
            self.stream.close(CloseCode.RESTARTING, "the server restarts")
        elif self.node.move.log_is_replaced:
            self.stream.close(CloseCode.RESTARTING, "the log was lost")
        elif self.is_paused or self.connection.delivered != self.node.hub.offsets:
            self._run(self._recover(buffer))
        else:
            self.node.hub.go_live(self.connection, ())

    def pause(self) -> None:
        """Stop writing to a full transport; once it has drained, catch up from the log (backpressure)."""
        self.is_paused = True
        self.node.stalls += 1
        self.node.signals.stalled.emit(self.connection)
        if self._is_live:
            buffer = self._buffer(0)
            self.node.hub.stall(self.connection, buffer)
            self._run(self._recover(buffer))

    def resume(self) -> None:
        """Continue after the transport has drained."""
        self.is_paused = False
        if self._drained is not None:
            self._drained.set()
            self._drained = None

    def receive(
        self, actions: Callable[[], ClientActions], text: bytes | bytearray, then: Callable[[], None]
    ) -> bool:
        """Begin to carry out what a text of the client asks for.

        Args:
            actions: returns what the client can do.
            text: UTF-8.
            then: called when it is done; the caller reads nothing further until then.

        Returns:
            Whether it asks for anything. If not, `then` is not called.
        """
        commands = self.session.receive(text)
        if not commands:
            return False

        async def work() -> None:
            await self._until_done(carry_out(self, actions(), commands))
            self._commands = None
            then()

        self._commands = asyncio.get_running_loop().create_task(work())
        return True

    def ended(self, grace_s: float, code: int | None, reason: str) -> None:
        """Record why the stream ended, and detach the connection.

        Args:
            grace_s: as in `lost`.
            code: the close code; None if the socket was lost without a close code. If the client closes with
                1000, the whole connection ends. That is recorded when the connection ends, and not here.
        """
        if not self._has_ended:
            self._has_ended = True
            self.node.signals.closed.emit(self.stream, code)
        if self.is_current and code != CloseCode.NORMAL:
            self.node.local.record_ending(self.connection, code, reason, final=False)
        self.lost(grace_s)

    def lost(self, grace_s: float) -> None:
        """Detach the connection. It ends unless another stream attaches within `grace_s` seconds."""
        if self.is_current and self.connection.state is not ConnectionState.CLOSED:
            self.node.local.detached(self.connection, grace_s)
            self._delivered_when_lost = self.connection.delivered
        self.resume()

    def discard_pending(self) -> bool:
        """Write nothing more to a live stream, because its client no longer reads.

        Returns:
            Whether the stream may be ended in a later loop turn. A stream that catches up must end now:
            otherwise `CatchUp` would continue to write until that turn.
        """
        if not self.is_current:
            return True
        self.node.hub.discard_pending(self.connection)
        return self.connection.state is not ConnectionState.CATCHING_UP

    def mark_undelivered(self, delivered: Offsets) -> None:
        """Move `delivered` back to these offsets, because the client had gone before it read the last write.

        Does nothing if the connection has another stream now, or if another stream has moved `delivered` in
        the meantime. To move it back then would send the client again what it has received on that other
        stream.
        """
        if self.connection.stream is None and self.connection.delivered == self._delivered_when_lost:
            self.connection.delivered = min_offsets(self.connection.delivered, delivered)

    def left(self) -> None:
        """End the connection, because its client has closed the current stream with 1000."""
        self.node.local.departures.end_soon(self.connection, CloseCode.NORMAL, CLOSED_BY_CLIENT)

    async def drained(self, buffer: BufferBatch) -> None:
        """Wait until the transport has room.

        Args:
            buffer: the connection's batch, which buffers nothing while the client does not read.
        """
        await asyncio.sleep(0)  # uvloop calls `pause_writing` at the end of the loop turn of a write.
        while self.is_paused and self.is_current:
            # A client that does not read must cost no memory: events that arrive now are read from the log
            # later.
            buffer.overflow()
            await self._resumed()

    async def has_room(self) -> bool:
        """Wait until the transport has room; return whether the connection still has this stream."""
        await asyncio.sleep(0)  # As in `drained`.
        while self.is_paused and self.is_current:
            await self._resumed()
        return self.is_current

    async def _resumed(self) -> None:
        if self._drained is None:
            self._drained = asyncio.Event()
        await self._drained.wait()

    async def change(self, make: Callable[[], Awaitable[Change]]) -> None:
        """Change what a live stream receives, and write the answer before every event that follows.

        Changes are made one after the other: texts of a client wait for each other, but requests do not.

        Args:
            make: makes the change.
        """
        while self.is_current and (under_way := self._under_way()):
            await asyncio.wait((under_way,))
        if not self._is_live:
            return  # It has ended, or its client has closed it.
        buffer = self._buffer(BUFFERED_ENTRIES, self.node.hub.offsets)
        self.node.hub.stall(self.connection, buffer)
        self._change = made = asyncio.get_running_loop().create_future()
        changed = NO_CHANGE
        try:
            changed = await make()
        finally:  # Also if it fails, or is cancelled with its request: the stream goes on.
            self._change = None
            made.set_result(None)
            if self.is_current:
                if changed.answer:
                    self.stream.write(changed.answer)
                self._run(self._recover(buffer, changed))

    def _under_way(self) -> asyncio.Future[None] | None:
        """Return what has to be done before the stream is live again: a catch-up, or a change; None if it is live."""
        if self._change is not None:
            return self._change
        return self._task if self._task is not None and not self._task.done() else None

    @property
    def _is_live(self) -> bool:
        """Whether live events are written to this stream."""
        state, batch = self.connection.state, self.connection.batch
        return self.is_current and state is ConnectionState.LIVE and batch is not DISCARD

    def _run(self, work: Coroutine[None, None, None]) -> None:
        # At once: most streams have nothing to wait for, and a task takes longer than all the rest of their catch-up.
        task = run_eagerly(self._until_done(work), asyncio.get_running_loop())
        if task is not None:
            self._task = task

    async def _until_done(self, work: Coroutine[None, None, None]) -> None:
        """Run the work for a stream; if it fails, close the stream so that the client reconnects later."""
        try:
            await work
        except Unavailable as error:
            if self.is_current:
                self.stream.close(CloseCode.OVERLOADED, error.message)
        except Exception:
            # Do not leave the stream open and silent: if it ends, its client reconnects.
            logger.exception("a stream failed")
            if self.is_current:
                self.stream.close(CloseCode.OVERLOADED, "the server failed; its log has the reason")
        if self._task is not None and self._task is asyncio.current_task():
            self._task = None  # A finished task would be 0.7 KB of an idle stream (measured).

    async def _attach(self, buffer: BufferBatch, since: str | None) -> None:
        await catch_up_first(self, buffer, since)
        self._is_settled = True

    async def _recover(self, buffer: BufferBatch, change: Change = NO_CHANGE) -> None:
        """Send a client that was too slow what it missed, once it has read the bytes that wait for it.

        Args:
            change: what has changed of what it receives.
        """
        await self.drained(buffer)
        catch_up = CatchUp(self, buffer, self.stream.format.item, change.members_at)
        await catch_up.run(change.starts, strict=True)
