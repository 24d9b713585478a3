"""What a node asks of the one that holds a connection, and the answer; the engine carries both as bytes."""

from typing import Any

import msgspec
from msgspec import Struct

from channelstream.core.position import Offsets
from channelstream.engines.base import UserUpdate
from channelstream.errors import Faults, Invalid


class Reconnect(Struct, frozen=True):
    """What a repeated `/connect` says of the connection's user, who must be the one it belongs to."""

    user: str
    update: UserUpdate


class Subscribe(Struct, frozen=True, tag=True):
    """Join channels.

    Attributes:
        channels: each with the settings it gets if it is new.
        again: what else a repeated `/connect` says, which also makes the connection live longer.
        since: the position from where the application lets it read them; empty: from now on.
    """

    conn_id: str
    channels: dict[str, dict[str, Any]]
    reconnect: Reconnect | None = None
    since: str = ""


class Unsubscribe(Struct, frozen=True, tag=True):
    """Leave channels."""

    conn_id: str
    channels: list[str]


class End(Struct, frozen=True, tag=True):
    """Disconnect, closing the stream with this code."""

    conn_id: str
    code: int
    reason: str


class Release(Struct, frozen=True, tag=True):
    """Give the connection up to the node that asks: its client opens a stream there."""

    conn_id: str


Command = Subscribe | Unsubscribe | End | Release


class Answer(Struct, frozen=True):
    """What became of a command.

    Attributes:
        held: whether the connection was there; nothing else counts if not.
        channels: all channels of the connection, sorted.
        changed: those the command changed, sorted.
        heard: for Yield, up to where its client has been written everything.
        faults: why the command was refused, as in a 422.
    """

    held: bool
    channels: list[str] = []
    changed: list[str] = []
    delivered: Offsets = ()
    faults: Faults | None = None


_encode = msgspec.msgpack.Encoder().encode
_command: msgspec.msgpack.Decoder[Command] = msgspec.msgpack.Decoder(Command)
_answer = msgspec.msgpack.Decoder(Answer)


def encode(told: Command | Answer) -> bytes:
    return _encode(told)


def read_command(data: bytes) -> Command:
    return _command.decode(data)


def read_answer(data: bytes | None) -> Answer | None:
    """Return the answer of the node that held the connection when it was asked; None where no living node does.

    Raises:
        Invalid: that node has refused.
    """
    answer = None if data is None else _answer.decode(data)
    if answer is not None and answer.faults is not None:
        raise Invalid(answer.faults)
    return answer
