"""Commands between nodes about one connection, and their answers; the engine carries both as bytes.

Nodes of two versions may share an engine while they are upgraded. So the names of commands and fields, which are encoded,
change only with the form of the data in the engine.
"""

from typing import Any, Self

import msgspec
from msgspec import Struct

from channelstream.core.position import UNKNOWN_POSITION, Offsets, Position
from channelstream.core.user import UserUpdate
from channelstream.errors import Invalid, TooManyRequests
from channelstream.faults import Faults
from channelstream.service.remote_calls import RemoteCall
from channelstream.service.room import RETRY_S


class Reconnect(Struct, frozen=True):
    """The user named by a repeated `/connect`, which must be the connection's, with the changes of its state.

    Attributes:
        update: the changes as JSON, since MessagePack has no whole numbers of more than 64 bits, which a state may have.
    """

    user: str
    update: bytes

    @classmethod
    def of(cls, user: str, update: UserUpdate) -> Self:
        """Return the user with changes."""
        return cls(user, _encode_update(update))

    def read_update(self) -> UserUpdate:
        """Return the changes."""
        return _read_update(self.update)


class Subscribe(Struct, frozen=True, tag=True):
    """Join channels.

    Attributes:
        channels: each with the settings it gets if it is new.
        reconnect: set for a repeated `/connect`, which also extends the life of a connection without a stream.
        since: the position from which the application lets the connection read them; empty: from now on.
    """

    conn_id: str
    channels: dict[str, dict[str, Any]]
    reconnect: Reconnect | None = None
    since: str = ""


class Unsubscribe(Struct, frozen=True, tag=True):
    """Leave channels."""

    conn_id: str
    channels: list[str]


class End(Struct, frozen=True, tag=True, omit_defaults=True):
    """Disconnect, and close the stream with this code.

    Attributes:
        reason: what the client is sent.
        recorded: what is recorded in place of the reason; empty means the same. A node of an older version ignores it.
    """

    conn_id: str
    code: int
    reason: str
    recorded: str = ""


class Release(Struct, frozen=True, tag=True):
    """Release the connection to the node that asks: its client opens a stream there."""

    conn_id: str


Command = Subscribe | Unsubscribe | End | Release


class Answer(Struct, frozen=True):
    """The result of a command.

    Attributes:
        found: whether the node that answers holds the connection; if not, all else is empty.
        channels: all channels of the connection, sorted.
        changed: the channels that the command changed, sorted.
        delivered: for `Release`, the offsets up to which the client has been sent everything.
        sent_apart: for `Release`, that of the connection (`core.connection.Connection`).
        faults: why the command was refused, as in a 422.
        limit: which limit of the application refused it, as in a 429.
    """

    found: bool
    channels: list[str] = []
    changed: list[str] = []
    delivered: Offsets = ()
    faults: Faults | None = None
    limit: str = ""
    sent_apart: dict[str, int] = {}


_encode_update = msgspec.json.Encoder().encode
_read_update = msgspec.json.Decoder(UserUpdate).decode
_encode = msgspec.msgpack.Encoder().encode
_command: msgspec.msgpack.Decoder[Command | RemoteCall] = msgspec.msgpack.Decoder(Command | RemoteCall)
_answer = msgspec.msgpack.Decoder(Answer)


def encode(message: Command | RemoteCall | Answer) -> bytes:
    return _encode(message)


def read_command(data: bytes) -> Command | RemoteCall:
    return _command.decode(data)


def read_answer(data: bytes | None) -> Answer | None:
    """Return the answer of the node that held the connection when it was asked; None where no living node does.

    Raises:
        Invalid: that node has refused the command.
        TooManyRequests: the application has no room for it there.
    """
    answer = None if data is None else _answer.decode(data)
    if answer is not None and answer.faults is not None:
        raise Invalid(answer.faults)
    if answer is not None and answer.limit:
        raise TooManyRequests(answer.limit, RETRY_S)
    return answer


def parse_since(text: str) -> Position | None:
    """Return the position of a call: None for an empty text, `UNKNOWN_POSITION` for one that cannot be read."""
    return (Position.parse(text) or UNKNOWN_POSITION) if text else None
