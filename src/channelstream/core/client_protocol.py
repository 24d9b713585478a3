"""What a connection's client speaks, as far as the domain and the engines need to know it."""

from enum import IntEnum
from typing import NamedTuple


class PresenceAudience(IntEnum):
    """In which of its channels a connection receives presence events."""

    IF_ANNOUNCED = 0
    """In channels with `notify_presence`."""
    ALWAYS = 1
    """In every channel."""


class ClientProtocol(NamedTuple):
    """A protocol of clients; fixed when a connection is registered.

    Attributes:
        name: opaque here. Engines store it for a node that takes the connection over.
        presence: where its clients receive presence events.
    """

    name: str
    presence: PresenceAudience
