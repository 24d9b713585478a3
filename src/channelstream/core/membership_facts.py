"""Makes the facts about who joins and leaves, for the applications that want them."""

from collections.abc import Callable
from typing import Protocol

from channelstream.core.channel import Channel
from channelstream.core.facts import (
    ChannelOccupied,
    ChannelVacated,
    ConnectionClosed,
    ConnectionOpened,
    Fact,
    MemberAdded,
    MemberRemoved,
    UserOffline,
    UserOnline,
    public_id,
)


class Wanted(Protocol):
    """Which facts are wanted."""

    def __bool__(self) -> bool:
        """Whether any facts are wanted."""

    def wants(self, kind: str, key: str) -> bool:
        """Return whether facts of this kind are wanted about the channel or user with this key."""


class MembershipFacts:
    """Makes the facts of a registry, each where the change happens."""

    def __init__(self, wanted: Wanted, new_id: Callable[[], str], keep: Callable[[Fact], None]) -> None:
        """Create what makes the facts of one registry.

        Args:
            keep: called with each fact that is wanted, in order.
        """
        self._wanted = wanted
        self._new_id = new_id
        self._keep = keep

    def joined(self, channel: Channel, user: str, is_first: bool, now_s: float) -> None:
        """Report that a connection has joined a channel.

        Args:
            is_first: it is the only one of its user there.
        """
        name = channel.name
        if channel.connections == 1 and self._wanted.wants("occupied", name):
            self._keep(ChannelOccupied(id=self._new_id(), at_ms=_ms(now_s), channel=name))
        if is_first and channel.settings.notify_presence and self._wanted.wants("added", name):
            self._keep(MemberAdded(id=self._new_id(), at_ms=_ms(now_s), channel=name, user=user))

    def left(self, channel: Channel, user: str, was_last: bool, now_s: float) -> None:
        """Report that a connection has left a channel.

        Args:
            was_last: its user has no other one there.
        """
        name = channel.name
        if was_last and channel.settings.notify_presence and self._wanted.wants("removed", name):
            self._keep(MemberRemoved(id=self._new_id(), at_ms=_ms(now_s), channel=name, user=user))
        if not channel.connections and self._wanted.wants("vacated", name):
            self._keep(ChannelVacated(id=self._new_id(), at_ms=_ms(now_s), channel=name))

    def online(self, user: str, now_s: float) -> None:
        """Report that the first connection of a user was registered."""
        if self._wanted.wants("online", user):
            self._keep(UserOnline(id=self._new_id(), at_ms=_ms(now_s), user=user))

    def offline(self, user: str, now_s: float) -> None:
        """Report that the last connection of a user was unregistered."""
        if self._wanted.wants("offline", user):
            self._keep(UserOffline(id=self._new_id(), at_ms=_ms(now_s), user=user))

    def opened(self, conn_id: str, user: str, now_s: float) -> None:
        """Report that a connection was registered."""
        if self._wanted.wants("opened", user):
            shown = public_id(conn_id)
            self._keep(ConnectionOpened(id=self._new_id(), at_ms=_ms(now_s), user=user, connection=shown))

    def closed(self, conn_id: str, user: str, now_s: float) -> None:
        """Report that a connection was unregistered."""
        if self._wanted.wants("closed", user):
            shown = public_id(conn_id)
            self._keep(ConnectionClosed(id=self._new_id(), at_ms=_ms(now_s), user=user, connection=shown))


def _ms(epoch_s: float) -> int:
    return round(epoch_s * 1000)
