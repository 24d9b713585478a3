"""What a client asks for in its texts: a tagged union of pure values, which a session reads and the transports carry out."""

from dataclasses import dataclass

from channelstream.errors import ChannelstreamError, CloseCode


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
        ref: what the answer repeats, such as an id that the client has chosen.
    """

    channels: tuple[str, ...]
    ref: str = ""


@dataclass(frozen=True, slots=True)
class Fail:
    """End the stream for a fault of the client; what follows in its texts is ignored."""

    code: CloseCode
    reason: str


ClientCommand = Reply | Subscribe | Fail


@dataclass(frozen=True, slots=True)
class Subscribed:
    """The channels that a connection has joined by a command; those that it was in already are not among them."""

    joined: tuple[str, ...]


Outcome = Subscribed | ChannelstreamError
"""The result of a command that the server carries out, or why it is refused."""
