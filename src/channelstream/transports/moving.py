"""How a stream moves to another process: what it has to be there, and how its socket is left here.

The position of its connection in the log is all that a stream is, besides its socket and what its client has begun to send.
A stream that is suspended writes nothing more, and proceeds from its position: here if nothing came of the move, else in the
other process. A socket is moved only when all bytes written to it are in the kernel: nobody else could write the rest of a
frame.
"""

from enum import IntEnum
from typing import Protocol

from msgspec import Struct

from channelstream.errors import CloseCode
from channelstream.wire.websocket import Unfinished


class StreamKind(IntEnum):
    """The transports whose streams can move; the numbers are stored."""

    WEBSOCKET = 1
    DEFLATE = 2
    SSE = 3


class StreamRecord(Struct, frozen=True, array_like=True):
    """A stream, for the process that takes it over.

    Attributes:
        conn_id: its connection, which has its position.
        unfinished: what its client has begun to send.
    """

    kind: StreamKind
    conn_id: str
    unfinished: Unfinished | None

    @property
    def size(self) -> int:
        """About its bytes."""
        begun = self.unfinished
        return 100 + (0 if begun is None or begun.message is None else len(begun.message[1]))


class MovableStream(Protocol):
    """A stream with a socket of its own, as the move sees it; `record` and what follows only while it `is_open`."""

    @property
    def is_open(self) -> bool:
        """Whether neither side closes it."""

    @property
    def is_busy(self) -> bool:
        """Whether a command of its client is carried out."""

    @property
    def is_settled(self) -> bool:
        """Whether it needs nothing but the log to continue, and all that was read is carried out."""

    def hold(self) -> None:
        """Read nothing more, until `let_go`."""

    def let_go(self) -> None:
        """Read again after `hold`: what goes on here, and what is closed here, whose client answers the close frame."""

    def suspend(self) -> None:
        """Write nothing more, until `proceed`."""

    def proceed(self) -> None:
        """Continue from the position of the connection."""

    def record(self) -> StreamRecord | None:
        """Return what another process needs; None if it cannot take the stream over."""

    def descriptor(self) -> int:
        """Return the descriptor of its socket."""

    def leave(self) -> None:
        """Forget the stream, which is another process's, and close the descriptor without a word to the client."""

    def close(self, code: CloseCode, reason: str) -> None:
        """End the stream."""

    def buffered_bytes(self) -> int:
        """Return the written bytes that the kernel has not taken yet."""
