"""Facts: what webhooks report to the server of an application about its channels, users and connections.

A fact is made where the change happens, in the same atomic step, and kept in the engine's outbox until it is sent
(`engines/outbox.py`). `Fact` is the union of all types.

A fact is stored as a MessagePack array: the tag of its type, its id, its time, and its other fields in the order in which
they are declared. The script of the Redis engine writes this form, too. What is stored outlives this version: a tag and
the order of the fields stay as they are, and a new field is the last one and has a default.
"""

from collections.abc import Sequence
from hashlib import sha1
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

MOST_MS = 253_402_300_799_999
"""The last millisecond of the year 9999: a stored fact with a later time is none, since its time cannot be shown."""


class FactBase(Struct, frozen=True, kw_only=True, gc=False, array_like=True):
    """The fields of all facts.

    Attributes:
        id: the same whenever and by whichever node it is sent, so that a receiver can drop duplicates.
        at_ms: epoch milliseconds.
    """

    id: str
    at_ms: Annotated[int, Meta(ge=0, le=MOST_MS)]


class ChannelFact(FactBase, frozen=True, kw_only=True, gc=False):
    """A fact about a channel; those of one channel are kept in the order in which they happened."""

    channel: str

    @property
    def place(self) -> str:
        """The key that names its application, and the shard that keeps it."""
        return self.channel


class UserFact(FactBase, frozen=True, kw_only=True, gc=False):
    """A fact about a user, or a connection of it."""

    user: str

    @property
    def place(self) -> str:
        """The key that names its application, and the shard that keeps it."""
        return self.user


class ChannelOccupied(ChannelFact, frozen=True, kw_only=True, gc=False, tag="occupied"):
    """The first connection joined a channel."""


class ChannelVacated(ChannelFact, frozen=True, kw_only=True, gc=False, tag="vacated"):
    """The last connection left a channel."""


class MemberAdded(ChannelFact, frozen=True, kw_only=True, gc=False, tag="added"):
    """The first connection of a user joined a channel with `notify_presence`."""

    user: str


class MemberRemoved(ChannelFact, frozen=True, kw_only=True, gc=False, tag="removed"):
    """The last connection of a user left a channel with `notify_presence`."""

    user: str


class UserOnline(UserFact, frozen=True, kw_only=True, gc=False, tag="online"):
    """The first connection of a user was registered."""


class UserOffline(UserFact, frozen=True, kw_only=True, gc=False, tag="offline"):
    """The last connection of a user was unregistered."""


class ConnectionOpened(UserFact, frozen=True, kw_only=True, gc=False, tag="opened"):
    """A connection was registered.

    Attributes:
        connection: `public_id` of its id.
    """

    connection: str


class ConnectionClosed(UserFact, frozen=True, kw_only=True, gc=False, tag="closed"):
    """A connection was unregistered; the field is that of `ConnectionOpened`."""

    connection: str


class ClientEvent(ChannelFact, frozen=True, kw_only=True, gc=False, tag="client_event"):
    """A client sent an event to the others in its channel.

    Attributes:
        event: its name.
        data: its data, as text.
        socket: the public id of the connection in its protocol; None if it has none.
        user: the member of the channel that sent it; None if it is not known.
    """

    event: str
    data: str
    socket: str | None = None
    user: str | None = None


class MessageAccepted(ChannelFact, frozen=True, kw_only=True, gc=False, tag="message"):
    """A message was accepted in a channel; its payload is not a part of the fact, so that a fact is short."""

    uuid: str
    user: str


class CacheMissed(ChannelFact, frozen=True, kw_only=True, gc=False, tag="cache_miss"):
    """A client met a channel that keeps its last event, and has none."""


class Repeated(FactBase, frozen=True, kw_only=True, gc=False, tag="repeated"):
    """An admin sends a fact again that a receiver had not accepted.

    Attributes:
        place: that of the other fact.
        receiver: its name as a consumer of the outbox; nobody else is sent it.
        data: the other fact in its stored form.
    """

    place: str
    receiver: str
    data: bytes


Fact = (
    ChannelOccupied
    | ChannelVacated
    | MemberAdded
    | MemberRemoved
    | UserOnline
    | UserOffline
    | ConnectionOpened
    | ConnectionClosed
    | ClientEvent
    | MessageAccepted
    | CacheMissed
    | Repeated
)
"""Any fact."""
ENDS: dict[type[Fact], type[Fact]] = {
    MemberAdded: MemberRemoved,
    ChannelOccupied: ChannelVacated,
    ConnectionOpened: ConnectionClosed,
    UserOnline: UserOffline,
}
"""Each fact of a beginning, with that of its end, which has the same fields; in the order in which all end at once."""

encode = msgspec.msgpack.Encoder().encode
"""Return the stored form of a fact."""
_decode = msgspec.msgpack.Decoder(Fact).decode


def decode(stored: bytes) -> Fact | None:
    """Return the fact of a stored form; None if this version does not know it, such as one of a newer version."""
    try:
        fact: Fact = _decode(stored)
    except ValueError:
        return None
    return fact


def kind_of(fact: Fact | type[Fact]) -> str:
    """Return the tag of the type of a fact."""
    return str(fact.__struct_config__.tag)


def end_of(kind: str, subject: Sequence[str], new_id: str, at_ms: int) -> Fact:
    """Return the fact that ends another one.

    Args:
        kind: that of the other one, which is one of `ENDS`.
        subject: its fields besides id and time.
    """
    begun, ended = next(each for each in ENDS.items() if kind_of(each[0]) == kind)
    values: dict[str, Any] = dict(zip(begun.__struct_fields__[2:], subject, strict=False))
    return ended(id=new_id, at_ms=at_ms, **values)


def subject_of(fact: Fact) -> tuple[str, ...]:
    """Return the fields of a fact besides its id and time, in their order."""
    return tuple(getattr(fact, name) for name in fact.__struct_fields__[2:])


def public_id(conn_id: str) -> str:
    """Return what names a connection to others. Its id is a secret, and does not follow from it."""
    return sha1(conn_id.encode(), usedforsecurity=False).hexdigest()
