"""A connection, which the application registers with `/connect`, and its states."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from types import MappingProxyType
from typing import Protocol

from channelstream.close_codes import CloseCode
from channelstream.core.batch import DISCARD, Batch
from channelstream.core.client_protocol import ClientProtocol
from channelstream.core.entry import Entry
from channelstream.core.events import Event
from channelstream.core.format import Format
from channelstream.core.position import Offsets, ReadRange, shard_of
from channelstream.core.stream_client import TIME_BYTES, StreamClient, pack

NO_NAMES: frozenset[str] = frozenset()
"""Shared by all connections that join or leave nothing: an empty set takes 216 bytes, and each would have two."""
_NOTHING_APART: Mapping[str, int] = MappingProxyType({})


def without(names: frozenset[str], done: Iterable[str]) -> frozenset[str]:
    """Return the names that are not done yet."""
    return names.difference(done) or NO_NAMES


class ConnectionState(Enum):
    """State of a connection; `TRANSITIONS` has all changes of it."""

    NEW = "new"
    """It is registered, and has never had a stream."""
    CATCHING_UP = "catching up"
    """It has a stream, and is sent what it missed, or waits until a slow client has read."""
    LIVE = "live"
    """Events are written as they arrive."""
    DETACHED = "detached"
    """Its stream was lost; another one may attach until the deadline."""
    RESTORED = "restored"
    """Its server was restarted, and no stream has attached since; one may attach until the deadline."""
    CLOSED = "closed"
    """The node has forgotten it."""

    # Each member exists once. `Enum` calls a function for each look-up in `TRANSITIONS`.
    __hash__ = object.__hash__


class Step(Enum):
    """An event in the life of a connection."""

    RESTORE = "restore"
    ATTACH = "attach"
    CAUGHT_UP = "caught up"
    STALL = "stall"
    DETACH = "detach"
    CLOSE = "close"

    __hash__ = object.__hash__


_S = ConnectionState
TRANSITIONS: dict[tuple[ConnectionState, Step], ConnectionState] = {
    (_S.NEW, Step.RESTORE): _S.RESTORED,
    (_S.NEW, Step.ATTACH): _S.CATCHING_UP,
    (_S.RESTORED, Step.ATTACH): _S.CATCHING_UP,
    (_S.DETACHED, Step.ATTACH): _S.CATCHING_UP,
    (_S.CATCHING_UP, Step.ATTACH): _S.CATCHING_UP,
    (_S.LIVE, Step.ATTACH): _S.CATCHING_UP,
    (_S.CATCHING_UP, Step.CAUGHT_UP): _S.LIVE,
    (_S.LIVE, Step.STALL): _S.CATCHING_UP,
    (_S.CATCHING_UP, Step.DETACH): _S.DETACHED,
    (_S.LIVE, Step.DETACH): _S.DETACHED,
    (_S.NEW, Step.CLOSE): _S.CLOSED,
    (_S.RESTORED, Step.CLOSE): _S.CLOSED,
    (_S.CATCHING_UP, Step.CLOSE): _S.CLOSED,
    (_S.LIVE, Step.CLOSE): _S.CLOSED,
    (_S.DETACHED, Step.CLOSE): _S.CLOSED,
}
"""Every transition; any other is a bug and raises KeyError."""


class Stream(Protocol):
    """A stream, as its connection sees it; each transport has one."""

    @property
    def format(self) -> Format: ...

    def write(self, data: bytes) -> None:
        """Send bytes of this format; never blocks."""

    def close(self, code: CloseCode, reason: str) -> None:
        """End the stream, and send the client the reason."""

    def buffered_bytes(self) -> int:
        """Return the bytes written that the transport still holds."""


class Connection:
    """One connection of a user.

    Attributes:
        id: the conn_id that the client sends.
        channels: its channels, each with the range of its log that it may read.
        private: the range that it may read of its user's private messages.
        joining: channels that it is joining: the engine may not have registered it there yet, and their logs cannot
            be read. The name of the private messages is among them while the connection itself is being registered.
        leaving: channels that it is leaving.
        seats: its seats (`core.seat`), each by its channel; None if it has none, as nearly all connections.
        batch: the events that wait for the next flush; see `core.batch`.
        delivered: the position up to which the log was written to its stream; valid unless it is LIVE.
        sent_apart: channels of which its stream was sent events that are older than its position, each with the offset in
            that position: a client that resumes from there may lack them.
        stream: None while it has none; `format_number` is the number of its format, copied here for the flush.
        write: how the flush writes to the stream: `write` of the stream, or what the stream has put here; not set while it
            has none. It returns how many bytes it has taken, None for all, and raises OSError if it could take none;
            `write_all` takes the rest.
        deadline_s: when it ends unless a stream attaches, in the engine's clock; None while it has a stream.
        due_slot: the place of this deadline in the table of all (`core.deadlines`); None if it is not there.
    """

    __slots__ = (
        "_agent",
        "_client",
        "batch",
        "channels",
        "deadline_s",
        "delivered",
        "due_slot",
        "format_number",
        "id",
        "joining",
        "leaving",
        "private",
        "protocol",
        "seats",
        "sent_apart",
        "state",
        "stream",
        "user",
        "write",
    )

    __deletable__ = ("write",)  # For a compiled build: setup.py.

    format_number: int
    write: Callable[[bytes], int | None]

    def __init__(
        self, conn_id: str, user: str, protocol: ClientProtocol, delivered: Offsets, deadline_s: float | None
    ) -> None:
        self.id = conn_id
        self.user = user
        self.protocol = protocol
        self.channels: dict[str, ReadRange] = {}
        self.private = ReadRange.of(delivered[shard_of(user, len(delivered))])
        self.joining = NO_NAMES
        self.leaving = NO_NAMES
        self.seats: dict[str, Connection] | None = None
        self.batch: Batch = DISCARD
        self.delivered = delivered
        self.sent_apart = _NOTHING_APART
        self.state = ConnectionState.NEW
        self.stream: Stream | None = None
        self._agent = ""
        self._client = b""
        self.deadline_s = deadline_s
        self.due_slot: int | None = None

    def move(self, step: Step) -> None:
        self.state = TRANSITIONS[self.state, step]

    def write_all(self, data: bytes) -> None:
        """Write to its stream, in order with all that was written before.

        Raises:
            RuntimeError: it has none, so the bytes would be lost.
        """
        if self.stream is None:
            raise RuntimeError("a connection without a stream cannot be written to")
        self.stream.write(data)

    def note_sent_apart(self, entries: Iterable[Entry]) -> None:
        """Note events of its channels that its stream was sent, with the position of the stream."""
        self.sent_apart = {
            **self.sent_apart,
            **{each.event.channel: each.offsets[each.shard] for each in entries if each.event.channel},
        }

    def lacking(self, delivered: Sequence[int]) -> Iterable[str]:
        """Return the channels of `sent_apart` of which a client at these offsets may lack events; forget the others."""
        shards = len(delivered)
        self._keep_apart(lambda name, offset: delivered[shard_of(name, shards)] <= offset)
        return self.sent_apart

    def left(self, channel: str) -> None:
        """Forget what it has of a channel that it has left."""
        del self.channels[channel]
        if channel in self.sent_apart:
            self._keep_apart(lambda name, _: name != channel)

    def _keep_apart(self, is_kept: Callable[[str, int], bool]) -> None:
        kept = {name: offset for name, offset in self.sent_apart.items() if is_kept(name, offset)}
        self.sent_apart = kept or _NOTHING_APART

    @property
    def client(self) -> StreamClient | None:
        """Who opened the present or last stream; None if there was none, or only at another node."""
        return StreamClient.unpacked(self._client, self._agent) if self._client else None

    def opened_by(self, address: str, agent: str, since_s: float, *, follows: bool = False) -> None:
        """Keep who opens a stream (`StreamClient`).

        Args:
            follows: the request continues the stream of the one before it, as a poll does: the time of the same client
                is kept.
        """
        client, before = pack(address, since_s), self._client
        if not (follows and before and before[TIME_BYTES:] == client[TIME_BYTES:] and agent == self._agent):
            self._client, self._agent = client, agent

    @property
    def packed_client(self) -> tuple[bytes, str]:
        """The client in a form that is quickly compared."""
        return self._client, self._agent

    @property
    def receiver(self) -> "Connection":
        """The connection whose stream is sent the events of this one: itself, or the holder of a seat."""
        return self

    def member_in(self, channel: str | None) -> "Connection":
        """Return the connection as which it is a member of a channel: a seat of it, or itself."""
        return self if self.seats is None or channel is None else self.seats.get(channel, self)

    def is_sent(self, channel: str | None) -> bool:
        """Whether its stream is sent the events of a channel: it, or a seat of it, is in the channel."""
        return channel in self.channels or channel in self.member_in(channel).channels

    @property
    def readable(self) -> Mapping[str, ReadRange]:
        """The channels that its stream is sent, those of its seats included, each with its range."""
        if self.seats is None:
            return self.channels
        return {
            **self.channels,
            **{name: each for seat in self.seats.values() for name, each in seat.channels.items()},
        }

    @property
    def all_joining(self) -> frozenset[str]:
        """What it is joining (`joining`), and its seats."""
        if self.seats is None:
            return self.joining
        return self.joining.union(*(seat.joining for seat in self.seats.values()))

    def receives(self, event: Event) -> bool:
        """Whether it receives an event of a channel that it is in, or of its user."""
        member = self.member_in(event.channel)
        return event.is_for(member.user, member.protocol.presence) and event.exclude_connection != self.id
