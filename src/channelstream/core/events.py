"""What can happen and be heard of: messages, their edits and deletions, presence, user state.

Events are frozen and shared by everyone who hears them. They carry no sequence number: the engine that accepts
an event wraps it in a `log.Entry`.
"""

from enum import IntEnum
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

Names = frozenset[str]

NAME_BYTES = 150
"""Bytes a user's name costs an event that lists it: text, its place in the list, its share of the encoded form."""
STATE_BYTES = 300
"""Likewise for a key of a user's state with its value."""
USER_LEFT_BYTES = 600
"""Likewise for one of many users who parted at once: its name, its id and its encoded form."""


class Dialect(IntEnum):
    """Which generation of the wire format a connection speaks (docs/api.md, "Compatibility with older programs")."""

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

    @property
    def count(self) -> int:
        """How many numbers of the log it takes, one for each item that a client hears of it."""
        return 1

    @property
    def about(self) -> tuple[str, ...]:
        """The users who do not hear it, or not all of it, though they are in the channel, because it is about them."""
        return ()

    def size_bytes(self) -> int:
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

    def size_bytes(self) -> int:
        names = 0 if self.only is None and self.exclude is None else Event.size_bytes(self)
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

    def size_bytes(self) -> int:
        return Event.size_bytes(self) + 2 * len(self.payload or b"")


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
        users_cut: the channel does, and they are too many for one.
        announced: the channel has notify_presence; without it only seed connections hear of it.
    """

    user: str
    joined: bool
    timestamp: str
    state: dict[str, Any] | None
    users: tuple[tuple[str, dict[str, Any]], ...] = ()
    users_cut: bool = False
    announced: bool = True

    def size_bytes(self) -> int:
        keys = sum(len(state) for _, state in self.users) + len(self.state or ())
        return NAME_BYTES * len(self.users) + STATE_BYTES * keys

    @property
    def is_public(self) -> bool:
        return False

    @property
    def about(self) -> tuple[str, ...]:
        return (self.user,)

    def is_for(self, user: str, dialect: Dialect) -> bool:
        return user != self.user and (self.announced or dialect is Dialect.SEED)


class UserLeft(Struct, frozen=True, gc=False):
    """One of the users who parted at once.

    Attributes:
        back: how far its number is before that of the event.
    """

    user: str
    uuid: str
    back: int


class UsersLeft(Event, frozen=True, kw_only=True, gc=False):
    """The last connections of several users left a channel at once.

    A client hears a `parted` of each; those who come after a number are the rest of it. One event instead of many: whoever
    stays in a channel that very many leave has one step in its batch for all of them.

    Attributes:
        gone: the users, in the order of their numbers.
        users: (name, public state) of all members who stay, empty unless the channel broadcasts user lists.
        users_cut: as in `Presence`.
        announced: as in `Presence`.
    """

    gone: tuple[UserLeft, ...]
    timestamp: str
    users: tuple[tuple[str, dict[str, Any]], ...] = ()
    users_cut: bool = False
    announced: bool = True

    @property
    def is_public(self) -> bool:
        return False

    @property
    def count(self) -> int:
        return self.gone[0].back + 1

    @property
    def about(self) -> tuple[str, ...]:
        return tuple(each.user for each in self.gone)

    def is_for(self, user: str, dialect: Dialect) -> bool:
        others = len(self.gone) > 1 or self.gone[0].user != user
        return others and (self.announced or dialect is Dialect.SEED)

    def size_bytes(self) -> int:
        keys = sum(len(state) for _, state in self.users)
        listed = NAME_BYTES * len(self.users) + STATE_BYTES * keys
        return len(self.gone) * (USER_LEFT_BYTES + listed)

    def after(self, back: int) -> "UsersLeft":
        """Return what is left of it for who has heard all but the last numbers, this many and the event's own."""
        return replace(self, gone=tuple(each for each in self.gone if each.back <= back))

    def without(self, user: str) -> "UsersLeft":
        """Return it as this user hears it."""
        return replace(self, gone=tuple(each for each in self.gone if each.user != user))

    def ended(self) -> "UsersLeft":
        """Return it with the number of the last user as its own."""
        last = self.gone[-1].back
        return replace(self, gone=tuple(replace(each, back=each.back - last) for each in self.gone))

    def split(self) -> list[tuple[int, Presence]]:
        """Return how far before its own number which event stands for each user."""
        return [
            (
                each.back,
                Presence(
                    uuid=each.uuid,
                    channel=self.channel,
                    user=each.user,
                    joined=False,
                    timestamp=self.timestamp,
                    state=None,
                    users=self.users,
                    users_cut=self.users_cut,
                    announced=self.announced,
                ),
            )
            for each in self.gone
        ]


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

    def size_bytes(self) -> int:
        return STATE_BYTES * (len(self.state) + len(self.changed))
