"""The types of events: messages, their edits and deletions, presence, user state.

Events are frozen, since all their recipients share them. They have no offset: the engine that accepts an event wraps
it in a `log.Entry`.

`Event` is the union of all types. Code that treats each type differently matches it and ends with `assert_never`: a
new type then fails the type check wherever it is not handled yet. Each type has a tag, `kind`, under which engines store
it (`engines/event_codec.py`).
"""

from typing import Any, ClassVar

from msgspec import Struct
from msgspec.structs import replace

from channelstream.core.client_protocol import PresenceAudience

Names = frozenset[str]

NAME_BYTES = 150
"""Memory of a user's name in an event that lists it: the text, its place in the list, its share of the encoded form."""
STATE_BYTES = 300
"""Memory of one key of a user's state with its value."""
TRACEPARENT_BYTES = 200
"""Memory of a trace context: the text, and its part of the encoded form."""
USER_LEFT_BYTES = 600
"""Memory of one user of `UsersLeft`: its name, its id and its encoded form."""


class EventBase(Struct, frozen=True, kw_only=True, gc=False, tag_field="kind", omit_defaults=True):
    """The fields of all events.

    Attributes:
        uuid: lower-case, dashed; of edits and deletions that of their message.
        channel: None for a private message outside any channel.
        only: names of the users who receive it; None means every member of the channel.
        exclude: names of users who do not receive it; None means no one is excluded.
    """

    uuid: str
    channel: str | None = None
    only: Names | None = None
    exclude: Names | None = None

    @property
    def is_public(self) -> bool:
        """Whether every member of the channel receives it, so that `is_for` need not be called."""
        return self.only is None and self.exclude is None

    @property
    def exclude_connection(self) -> str | None:
        """The id of the one connection that does not receive it; None for all but messages from a connection."""
        return None

    @property
    def addressees(self) -> Names:
        """The users in `only` whom it does not exclude: of a private message, those who receive it."""
        only = self.only or frozenset()
        return only - self.exclude if self.exclude else only

    @property
    def supersedes(self) -> str | None:
        """The uuid of the earlier events, of the same channel or users, that it changes or deletes; None for no change."""
        return None

    @property
    def count(self) -> int:
        """The number of its offsets: one for each item that a client is sent of it."""
        return 1

    @property
    def about(self) -> tuple[str, ...]:
        """The users that it is about, who receive nothing or only a part of it although they are in the channel."""
        return ()

    def size_bytes(self) -> int:
        """Return its approximate memory besides a fixed part, its encoded form included."""
        return NAME_BYTES * (len(self.only or ()) + len(self.exclude or ()))

    def is_for(self, user: str, presence: PresenceAudience) -> bool:
        """Whether a connection of this user receives the event, if it is in the channel."""
        return (self.only is None or user in self.only) and (self.exclude is None or user not in self.exclude)


class Message(EventBase, frozen=True, kw_only=True, gc=False, tag="message"):
    """A message as published.

    Attributes:
        payload: compact JSON text of any value, encoded once.
        timestamp: naive UTC, ISO 8601 with six fraction digits.
        edited: when it was last edited; None if it never was.
        no_history: it is left out of the channel's history.
        traceparent: the W3C trace context of the call that published it; None unless that call asked for it.
        exclude_connection: the id of a connection that does not receive it, although it is in the channel; None means that
            all connections of its users do. No client is sent it.
    """

    supersedes: ClassVar[None] = None
    count: ClassVar[int] = 1
    user: str
    payload: bytes
    timestamp: str
    edited: str | None = None
    no_history: bool = False
    traceparent: str | None = None
    exclude_connection: str | None = None

    @property
    def is_public(self) -> bool:
        return self.only is None and self.exclude is None and self.exclude_connection is None

    def size_bytes(self) -> int:
        names = 0 if self.only is None and self.exclude is None else EventBase.size_bytes(self)
        return names + 2 * len(self.payload) + (0 if self.traceparent is None else TRACEPARENT_BYTES)


class MessageEdited(EventBase, frozen=True, kw_only=True, gc=False, tag="edit"):
    """A new payload, author or time of a message; None keeps that part.

    Attributes:
        early: no recipient had the message when it was accepted. The message may come later, which is no duplicate then.
    """

    edited: str
    user: str | None = None
    payload: bytes | None = None
    timestamp: str | None = None
    early: bool = False

    @property
    def supersedes(self) -> str:
        return self.uuid

    def size_bytes(self) -> int:
        return EventBase.size_bytes(self) + 2 * len(self.payload or b"")


class MessageDeleted(EventBase, frozen=True, kw_only=True, gc=False, tag="delete"):
    """A message is deleted."""

    @property
    def supersedes(self) -> str:
        return self.uuid


class Presence(EventBase, frozen=True, kw_only=True, gc=False, tag="presence"):
    """The first connection of a user joined a channel, or its last one left.

    Attributes:
        joined: False if the user left.
        state: the user's public state; None if it left.
        users: (name, public state) of all members; empty unless the channel broadcasts user lists.
        users_cut: the channel broadcasts them, and there are too many for a list.
        announced: the channel has notify_presence; without it only `PresenceAudience.ALWAYS` receives the event.
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

    def is_for(self, user: str, presence: PresenceAudience) -> bool:
        return user != self.user and (self.announced or presence is PresenceAudience.ALWAYS)


class UserLeft(Struct, frozen=True, gc=False, rename={"behind": "back"}):
    """One of the users of a `UsersLeft`; it is stored under the names of `rename`.

    Attributes:
        behind: the offset of the event, less that of this user's item.
    """

    user: str
    uuid: str
    behind: int


class UsersLeft(EventBase, frozen=True, kw_only=True, gc=False, tag="parted", rename={"departures": "gone"}):
    """The last connections of several users left a channel in one loop turn; stored under the names of `rename`.

    A client is sent a `parted` item for each user, and each item has its own offset. They are one event, so that a
    member who stays has one step in its batch for all of them, however many leave.

    Attributes:
        departures: the users, in the order of their offsets.
        users: (name, public state) of all members who stay; empty unless the channel broadcasts user lists.
        users_cut: as in `Presence`.
        announced: as in `Presence`.
    """

    departures: tuple[UserLeft, ...]
    timestamp: str
    users: tuple[tuple[str, dict[str, Any]], ...] = ()
    users_cut: bool = False
    announced: bool = True

    @property
    def is_public(self) -> bool:
        return False

    @property
    def count(self) -> int:
        return self.departures[0].behind + 1

    @property
    def about(self) -> tuple[str, ...]:
        return tuple(left.user for left in self.departures)

    def is_for(self, user: str, presence: PresenceAudience) -> bool:
        others = len(self.departures) > 1 or self.departures[0].user != user
        return others and (self.announced or presence is PresenceAudience.ALWAYS)

    def size_bytes(self) -> int:
        keys = sum(len(state) for _, state in self.users)
        listed = NAME_BYTES * len(self.users) + STATE_BYTES * keys
        return len(self.departures) * (USER_LEFT_BYTES + listed)

    def after(self, behind: int) -> "UsersLeft":
        """Return the event with only the departures at most `behind` offsets before its own."""
        return replace(self, departures=tuple(left for left in self.departures if left.behind <= behind))

    def without(self, user: str) -> "UsersLeft":
        """Return the event without this user, who does not receive its own departure."""
        return replace(self, departures=tuple(left for left in self.departures if left.user != user))

    def rebased(self) -> "UsersLeft":
        """Return the event for an entry whose offset is that of the last departure."""
        last = self.departures[-1].behind
        return replace(
            self, departures=tuple(replace(left, behind=left.behind - last) for left in self.departures)
        )

    def split(self) -> list[tuple[int, Presence]]:
        """Return each departure as an event of its own, with its `behind`."""
        return [
            (
                left.behind,
                Presence(
                    uuid=left.uuid,
                    channel=self.channel,
                    user=left.user,
                    joined=False,
                    timestamp=self.timestamp,
                    state=None,
                    users=self.users,
                    users_cut=self.users_cut,
                    announced=self.announced,
                ),
            )
            for left in self.departures
        ]


class UserStateChanged(EventBase, frozen=True, kw_only=True, gc=False, tag="state"):
    """The public state of a user changed.

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


Event = Message | MessageEdited | MessageDeleted | Presence | UsersLeft | UserStateChanged
"""Any event."""
