"""Connections, as the node and its engine describe them to each other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from channelstream.core.client_protocol import ClientProtocol
from channelstream.core.position import ReadRange


@dataclass(frozen=True, slots=True)
class Member:
    """A connection, as the engine registers it."""

    conn_id: str
    user: str
    protocol: ClientProtocol


@dataclass(frozen=True, slots=True)
class Leaving:
    """A connection to unregister, with the channels it is in."""

    member: Member
    channels: Sequence[str]


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
