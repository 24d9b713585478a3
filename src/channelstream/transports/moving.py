"""How a stream moves to another process: what it has to be there, and how its socket is left here.

The position of its connection in the log is all that a stream is, besides its socket and what its client has begun to send.
A stream that is suspended writes nothing more, and proceeds from its position: here if nothing came of the move, else in the
other process. A socket is moved only when all bytes written to it are in the kernel: nobody else could write the rest of a
frame.
"""

from enum import IntEnum

from msgspec import Struct

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
