"""Connections, as the node and its engine describe them to each other."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from msgspec import Struct

from channelstream.core.client_protocol import ClientProtocol
from channelstream.core.connection import Connection
from channelstream.core.position import Offsets, ReadRange
from channelstream.core.stream_client import StreamClient

ToJoin = tuple[str, Mapping[str, Any]]
"""A channel to join, with the settings it gets if it is created."""


class Member(Struct, frozen=True):
    """A connection, as the engine registers it."""

    conn_id: str
    user: str
    protocol: ClientProtocol


def member_of(connection: Connection) -> Member:
    """Return a connection as the engine registers it."""
    return Member(connection.id, connection.user, connection.protocol)


@dataclass(frozen=True, slots=True)
class Leaving:
    """A connection to unregister, with the channels it is in."""

    member: Member
    channels: Sequence[str]


def in_groups(leaving: Iterable[Leaving], channels: int) -> Iterator[deque[Leaving]]:
    """Yield connections in groups of at most about so many channels together, of at least one connection."""
    group, size = deque[Leaving](), 0
    for each in leaving:
        group.append(each)
        size += len(each.channels)
        if size >= channels:
            yield group
            group, size = deque(), 0
    yield group


@dataclass(frozen=True, slots=True)
class Membership:
    """The channels of a connection, as its owner knows them.

    Attributes:
        channels: each with its read range; None while the connection is joining it.
        private: the read range of its user's private messages; None while it is not known.
    """

    member: Member
    channels: Mapping[str, ReadRange | None]
    private: ReadRange | None = None


@dataclass(frozen=True, slots=True)
class RestoredConnection:
    """A connection that an engine has kept from the last run of its server, or that another process hands over.

    Attributes:
        channels: each with its read range.
        private: the read range of its user's private messages.
        offsets: the end of the log in the last run, or the position up to which its client was sent everything.
        client: who opened its last stream; None if that is not known.
    """

    member: Member
    channels: Mapping[str, ReadRange]
    private: ReadRange
    offsets: Offsets
    client: StreamClient | None = None
