"""What can happen and be heard of: messages, their edits and deletions, presence, user state.

Events are frozen and shared by everyone who hears them. They carry no sequence number: the engine that accepts
an event wraps it in a `log.Entry`.
"""

from enum import IntEnum
from typing import Any

from msgspec import Struct

Names = frozenset[str]

NAME_BYTES = 150
"""Bytes a user's name costs an event that lists it: text, its place in the list, its share of the encoded form."""
STATE_BYTES = 300
"""Likewise for a key of a user's state with its value."""


class Dialect(IntEnum):
    """Which generation of the wire format a connection speaks (docs/api.md, "Two dialects")."""

    SEED = 0
    V07 = 1


class Event(Struct, frozen=True, kw_only=True, gc=False):
    """The base of all events.

    Attributes:
        uuid: lower-case dashed; of the message it is about, for edits and deletions.
        channel: None for a private message that travels outside any channel.
        only: user names it is meant for; None means every member of the channel.
        exclude: user names that do not hear it; None means nobody is left out.
    """

    uuid: str
    channel: str | None = None
    only: Names | None = None
    exclude: Names | None = None

    @property
    def is_public(self) -> bool:
        """Whether every member of the channel may hear it, so that nobody has to be asked."""
        return self.only is None and self.exclude is None

    @property
    def supersedes(self) -> str | None:
        """The uuid of the earlier events, of the same channel or users, whose past form nobody is sent any more."""
        return None

    def weight(self) -> int:
        """Return about how many bytes it keeps besides a fixed part, its encoded form included."""
        return NAME_BYTES * (len(self.only or ()) + len(self.exclude or ()))

    def is_for(self, user: str, dialect: Dialect) -> bool:
        """Whether a connection of this user hears the event."""
        return (self.only is None or user in self.only) and (self.exclude is None or user not in self.exclude)


class Message(Event, frozen=True, kw_only=True, gc=False):
    """A message as published.

    Attributes:
        payload: compact JSON text of any value, encoded once.
        timestamp: naive UTC, ISO 8601 with six fraction digits.
        edited: when it was last edited, None while it never was.
        no_history: it is not shown in the channel's history.
    """

    user: str
    payload: bytes
    timestamp: str
    edited: str | None = None
    no_history: bool = False

    def weight(self) -> int:
        names = 0 if self.only is None and self.exclude is None else Event.weight(self)
        return names + 2 * len(self.payload)


class MessageEdited(Event, frozen=True, kw_only=True, gc=False):
    """A message got a new payload, author or time; None means that part stays as it was."""

    edited: str
    user: str | None = None
    payload: bytes | None = None
    timestamp: str | None = None

    @property
    def supersedes(self) -> str:
        return self.uuid

    def weight(self) -> int:
        return Event.weight(self) + 2 * len(self.payload or b"")


class MessageDeleted(Event, frozen=True, kw_only=True, gc=False):
    """A message was taken back."""

    @property
    def supersedes(self) -> str:
        return self.uuid


class Presence(Event, frozen=True, kw_only=True, gc=False):
    """The first connection of a user joined a channel, or its last one left.

    Attributes:
        joined: False when the user parted.
        state: the user's public state, None when it parted.
        users: (name, public state) of all members, empty unless the channel broadcasts user lists.
        announced: the channel has notify_presence; without it only seed connections hear of it.
    """

    user: str
    joined: bool
    timestamp: str
    state: dict[str, Any] | None
    users: tuple[tuple[str, dict[str, Any]], ...] = ()
    announced: bool = True

    def weight(self) -> int:
        keys = sum(len(state) for _, state in self.users) + len(self.state or ())
        return NAME_BYTES * len(self.users) + STATE_BYTES * keys

    @property
    def is_public(self) -> bool:
        return False

    def is_for(self, user: str, dialect: Dialect) -> bool:
        return user != self.user and (self.announced or dialect is Dialect.SEED)


class UserStateChanged(Event, frozen=True, kw_only=True, gc=False):
    """Public state of a user changed.

    Attributes:
        state: the whole public state.
        changed: the public keys that changed, with their new values.
    """

    user: str
    timestamp: str
    state: dict[str, Any]
    changed: tuple[tuple[str, Any], ...]

    def weight(self) -> int:
        return STATE_BYTES * (len(self.state) + len(self.changed))
