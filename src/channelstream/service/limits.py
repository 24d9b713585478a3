"""How many connections a node takes, and how long a new one may be without a stream."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from channelstream.apps.app import AppLimits
from channelstream.errors import Invalid


@dataclass(frozen=True, slots=True)
class NodeLimits:
    """Bounds of connections.

    Attributes:
        connections: registered at a time; more are refused with 503.
        channels_per_connection: channels one connection may be in; more are refused with 422.
        unattached_s: life of a connection that never had a stream, in seconds. How long it outlives a stream depends
            on the transport and is passed to `detached`.
        apps: the limits of each application, by its id; empty if none has any.
        restored_s: life of a connection that outlived a restart of its server, in seconds from that start.
        not_resuming: names of the protocols whose clients cannot come back to a connection; none outlives a restart.
    """

    connections: int = 1_000_000
    channels_per_connection: int = 1000
    unattached_s: float = 15.0
    restored_s: float = 45.0
    not_resuming: frozenset[str] = frozenset()
    apps: Mapping[str, AppLimits] = field(default_factory=dict)

    def check_channel_count(self, count: int) -> None:
        """Raise Invalid if a connection may not have so many channels."""
        if count > self.channels_per_connection:
            raise Invalid(
                {"channels": [f"A connection may have at most {self.channels_per_connection} channels."]}
            )
