"""What a client asks for in its texts: a tagged union of pure values, which a session reads and the transports carry out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from channelstream.core.entry import Entry
from channelstream.core.user import StateValue
from channelstream.errors import ChannelstreamError, CloseCode

Ref = str | int | None
"""What an answer repeats, such as an id that the client has chosen."""


@dataclass(frozen=True, slots=True)
class Reply:
    """Send an answer that is known already, to a ping or to a faulty text.

    Attributes:
        data: the bytes of one write.
    """

    data: bytes


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Join channels; `ClientSession.reply` makes the answer, which the client is sent before their events.

    Attributes:
        channels: valid names.
        since: positions from which some of them are read; the others from now on.
    """

    channels: tuple[str, ...]
    ref: Ref = ""
    since: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """Leave channels."""

    channels: tuple[str, ...]
    ref: Ref


@dataclass(frozen=True, slots=True)
class Publish:
    """Publish a message of the client's user.

    Attributes:
        payload: JSON.
        uuid: the id of the message; empty lets the server choose one.
    """

    channel: str
    payload: bytes
    ref: Ref
    uuid: str = ""


@dataclass(frozen=True, slots=True)
class SetState:
    """Change the state of the client's user; a null removes a key."""

    values: Mapping[str, StateValue]
    ref: Ref


@dataclass(frozen=True, slots=True)
class Info:
    """Describe channels."""

    channels: tuple[str, ...]
    ref: Ref


@dataclass(frozen=True, slots=True)
class Refresh:
    """Take a fresh token in place of the one with which the stream was opened."""

    token: str = field(repr=False)
    ref: Ref


@dataclass(frozen=True, slots=True)
class Fail:
    """End the stream for a fault of the client; what follows in its texts is ignored."""

    code: CloseCode
    reason: str


Action = Subscribe | Unsubscribe | Publish | SetState | Info | Refresh
"""What the server carries out, and answers."""
ClientCommand = Reply | Fail | Action


@dataclass(frozen=True, slots=True)
class Subscribed:
    """The channels that a connection has joined by a command; those that it was in already are not among them.

    Attributes:
        channels: all of the connection.
        recovered: those of the joined ones that were asked for from a position, and of which nothing is missing.
        lost: those of which something may be missing.
        missed: what the recovered ones have had from their positions on.
    """

    joined: tuple[str, ...]
    channels: tuple[str, ...] = ()
    recovered: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    missed: tuple[Entry, ...] = ()


@dataclass(frozen=True, slots=True)
class Done:
    """A command was carried out.

    Attributes:
        result: what its answer says, as JSON.
        left: the channels that the connection is no longer in because its client may not be.
    """

    result: Mapping[str, Any]
    left: tuple[str, ...] = ()


Outcome = Subscribed | Done | ChannelstreamError
"""The result of a command that the server carries out, or why it is refused."""
