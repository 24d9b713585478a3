"""How many connections and channels each application may have on a node."""

from collections import Counter
from collections.abc import Iterable, Mapping
from enum import StrEnum

from channelstream.apps.app import AppLimits
from channelstream.core.hub import Hub
from channelstream.errors import TooManyRequests

RETRY_S = 5
"""When it may make sense to try again: nobody knows when a connection ends."""


class Limit(StrEnum):
    """What an application has a limit of."""

    CONNECTIONS = "connections"
    CHANNELS = "channels"


class Room:
    """Refuses what an application has no room for.

    Connections that come from another node, from another process or from the last run are never refused. Calls in progress
    at the same time may pass the limit of channels by what they add.

    Attributes:
        refused: how often each application was refused something since the start.
    """

    def __init__(self, hub: Hub, limits: Mapping[str, AppLimits]) -> None:
        """Create the room of a node.

        Args:
            limits: of each application, by what `hub.usage.owner_of` returns.
        """
        self._hub = hub
        self._limits = {owner: each for owner, each in limits.items() if each.connections or each.channels}
        self.refused: Counter[tuple[str, Limit]] = Counter()

    def check_connection(self, conn_id: str, channels: Iterable[str]) -> None:
        """Refuse a new connection if there is no room for it, or for its channels.

        Raises:
            TooManyRequests: there is none.
        """
        if not self._limits:
            return
        owner = self._hub.usage.owner_of(conn_id)
        limits = self._limits.get(owner)
        if limits is not None and 0 < limits.connections <= self._hub.usage.connections[owner]:
            self._refuse(owner, Limit.CONNECTIONS, limits.connections)
        self.check_channels(conn_id, channels)

    def check_channels(self, conn_id: str, channels: Iterable[str]) -> None:
        """Refuse channels that a connection is about to join if some of them are new here and there is no room.

        Raises:
            TooManyRequests: there is none.
        """
        owner = self._hub.usage.owner_of(conn_id)
        limits = self._limits.get(owner)
        if limits is None or not limits.channels:
            return
        new = sum(name not in self._hub.channels for name in channels)
        if new and self._hub.usage.channels[owner] + new > limits.channels:
            self._refuse(owner, Limit.CHANNELS, limits.channels)

    def _refuse(self, owner: str, limit: Limit, most: int) -> None:
        self.refused[owner, limit] += 1
        raise TooManyRequests(
            f"No more {limit} of this application here: at most {most}; try again later.", RETRY_S
        )
