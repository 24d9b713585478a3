"""A connection: what the application registered with `/connect`, and the life it leads from there."""

from collections.abc import Callable
from enum import Enum
from typing import Protocol

from channelstream.core.batch import DISCARD, Batch
from channelstream.core.codec import Framing
from channelstream.core.events import Dialect, Event
from channelstream.core.position import Offsets, ReadRange, shard_of
from channelstream.errors import CloseCode


class ConnectionState(Enum):
    """Where a connection is in its life; `TRANSITIONS` says how it moves."""

    NEW = "new"
    """Registered, never attached to a stream."""
    CATCHING_UP = "catching up"
    """It has a stream and is sent what it missed, or waits for a slow client to read."""
    LIVE = "live"
    """Events are written as they come."""
    DETACHED = "detached"
    """Its stream is gone; it may come back until its deadline."""
    CLOSED = "closed"
    """It is forgotten."""


class Step(Enum):
    """What can happen to a connection."""

    ATTACH = "attach"
    CAUGHT_UP = "caught up"
    STALL = "stall"
    DETACH = "detach"
    CLOSE = "close"


_S = ConnectionState
TRANSITIONS: dict[tuple[ConnectionState, Step], ConnectionState] = {
    (_S.NEW, Step.ATTACH): _S.CATCHING_UP,
    (_S.DETACHED, Step.ATTACH): _S.CATCHING_UP,
    (_S.CATCHING_UP, Step.ATTACH): _S.CATCHING_UP,
    (_S.LIVE, Step.ATTACH): _S.CATCHING_UP,
    (_S.CATCHING_UP, Step.CAUGHT_UP): _S.LIVE,
    (_S.LIVE, Step.STALL): _S.CATCHING_UP,
    (_S.CATCHING_UP, Step.DETACH): _S.DETACHED,
    (_S.LIVE, Step.DETACH): _S.DETACHED,
    (_S.NEW, Step.CLOSE): _S.CLOSED,
    (_S.CATCHING_UP, Step.CLOSE): _S.CLOSED,
    (_S.LIVE, Step.CLOSE): _S.CLOSED,
    (_S.DETACHED, Step.CLOSE): _S.CLOSED,
}
"""Every move a connection can make; any other is a bug and raises KeyError."""


class Stream(Protocol):
    """What a transport offers to the connection it carries."""

    framing: Framing

    def write(self, data: bytes) -> None:
        """Send bytes of this framing; never blocks, never raises."""

    def write_first(self, item: bytes, position: str) -> None:
        """Send the first item of a resuming client, which alone does not end a long poll."""

    def caught_up(self) -> None:
        """Hear that a client that has no position yet, or has lost something, was sent all there is."""

    def close(self, code: CloseCode, reason: str) -> None:
        """End the stream and tell the client why."""

    def buffered_bytes(self) -> int:
        """Return how much was written that the client's line has not taken yet."""


class Connection:
    """One connection of a user.

    Attributes:
        id: the conn_id the browser shows.
        channels: names of its channels, each with from where it may be read.
        private: from where its user's private messages may be read.
        joining: those of them that the engine does not count it in yet: its log cannot be asked for them. The name of the
            private messages is among them while the whole connection is new to the engine.
        leaving: those of them that it is just being counted out of.
        batch: what it is sent at the end of this tick; see `core.batch`.
        heard: up to where the log was written to its stream, for each shard; valid whenever it is not LIVE.
        stream: None while it has none; `write` is its write method and `format` its format, kept here for the flush.
        deadline_s: when it is closed unless it attaches, in the engine's clock; None while it has a stream.
    """

    __slots__ = (
        "batch",
        "channels",
        "deadline_s",
        "delivered",
        "dialect",
        "format",
        "id",
        "joining",
        "leaving",
        "private",
        "state",
        "stream",
        "user",
        "write",
    )

    format: int
    write: Callable[[bytes], None]

    def __init__(
        self, conn_id: str, user: str, dialect: Dialect, delivered: Offsets, deadline_s: float
    ) -> None:
        self.id = conn_id
        self.user = user
        self.dialect = dialect
        self.channels: dict[str, ReadRange] = {}
        self.private = ReadRange.of(delivered[shard_of(user, len(delivered))])
        self.joining: frozenset[str] = frozenset()
        self.leaving: frozenset[str] = frozenset()
        self.batch: Batch = DISCARD
        self.delivered = delivered
        self.state = ConnectionState.NEW
        self.stream: Stream | None = None
        self.deadline_s: float | None = deadline_s

    def move(self, step: Step) -> None:
        self.state = TRANSITIONS[self.state, step]

    def receives(self, event: Event) -> bool:
        return event.is_for(self.user, self.dialect)
