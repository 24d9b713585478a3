"""What a client asks for in its texts: a tagged union of pure values, which a session reads and the transports carry out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from channelstream.close_codes import CloseCode
from channelstream.core.entry import Entry
from channelstream.core.events import Message
from channelstream.core.user import State, StateValue
from channelstream.errors import ChannelstreamError

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
class Join:
    """Join a channel, and learn what is in it; `ClientSession.reply` makes the answer, as for `Subscribe`.

    Attributes:
        member: the name under which the client is a member of this channel; None for its user.
        member_state: what the others see of the member.
        last_s: the client is sent the last message of the channel if it is not older, in seconds; 0 for none.
        is_granted: the application has allowed this client this channel.
    """

    channel: str
    ref: Ref
    member: str | None = None
    member_state: Mapping[str, StateValue] = field(default_factory=dict)
    last_s: float = 0.0
    is_granted: bool = False


@dataclass(frozen=True, slots=True)
class Leave:
    """Leave a channel that was entered with `Join`."""

    channel: str
    ref: Ref
    member: str | None = None


@dataclass(frozen=True, slots=True)
class Relay:
    """Publish a message to all others of a channel that was entered with `Join`, and not to the client itself.

    Attributes:
        payload: JSON.
        is_kept: the channel's history may have it.
        event: its name, for webhooks.
        data: its data as text, for webhooks.
        socket: the public id of the client's line, for webhooks.
    """

    channel: str
    payload: bytes
    ref: Ref
    member: str | None = None
    is_kept: bool = True
    event: str = ""
    data: str = ""
    socket: str | None = None


@dataclass(frozen=True, slots=True)
class SignIn:
    """Make known which user the client is: it may be sent away as such.

    Attributes:
        channel: which only connections of this user are in.
    """

    channel: str
    ref: Ref


@dataclass(frozen=True, slots=True)
class Fail:
    """End the stream for a fault of the client; what follows in its texts is ignored."""

    code: CloseCode
    reason: str


Membership = Join | Leave | Relay | SignIn
"""What a client does in channels that its protocol has admitted it to."""
Action = Subscribe | Unsubscribe | Publish | SetState | Info | Refresh | Membership
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
class Joined:
    """A channel that a connection has joined as a member.

    Attributes:
        members: the public state of each, by name; empty if it joined under no name.
        last: the last message of the channel, if one was asked for. One that is newer than the join is not here: the
            client's stream sends it.
        misses_last: one was asked for, and the channel keeps none.
        offset: of the log of the channel: its events up to it have made the members; None without members.
    """

    members: Mapping[str, State] = field(default_factory=dict)
    last: Message | None = None
    misses_last: bool = False
    offset: int | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """A command was carried out.

    Attributes:
        result: what its answer says, as JSON.
        left: the channels that the connection is no longer in because its client may not be.
    """

    result: Mapping[str, Any]
    left: tuple[str, ...] = ()


Outcome = Subscribed | Joined | Done | ChannelstreamError
"""The result of a command that the server carries out, or why it is refused."""
