"""An application, and all applications of a server."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from msgspec.structs import replace

from channelstream.apps.keys import DEFAULT, MARK, app_id_of, make_key, make_member_key
from channelstream.apps.pusher_app import PusherApp
from channelstream.core.events import Message, MessageDeleted, MessageEdited, Names

_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}", re.ASCII)
"""Short, since it is in every key: in each event, and in each name that an engine stores."""
_DOT = "."
"""Ends the id of the application in a connection id; it is in no id of an application."""


def is_app_id(text: str) -> bool:
    """Whether an application may have this id."""
    return _ID.fullmatch(text) is not None


E = TypeVar("E", bound=Message | MessageEdited | MessageDeleted)


@dataclass(frozen=True, slots=True)
class AppLimits:
    """Upper bounds of an application.

    Attributes:
        messages: messages in one list.
        info_users: users of a channel in one answer.
        messages_per_s: messages, edits and deletions that are accepted in a second on each node; 0 means no bound.
        connections: registered on each node; 0 means no bound.
        channels: with a connection on each node; 0 means no bound.
        token_age_s: how long a client's token may be valid from now on.
        connection_commands_per_s, connection_bytes_per_s: commands, and published bytes, of a client's connection in a
            second on each node; 0 means no bound.
        user_commands_per_s, user_messages_per_s: the same of all connections of a user, and its published messages.
        key_calls_per_s, key_messages_per_s: calls, and published messages, of a key that has no limits of its own.
    """

    messages: int = 100_000
    info_users: int = 1_000
    messages_per_s: float = 0.0
    connections: int = 0
    channels: int = 0
    token_age_s: float = 0.0
    connection_commands_per_s: float = 0.0
    connection_bytes_per_s: float = 0.0
    user_commands_per_s: float = 0.0
    user_messages_per_s: float = 0.0
    key_calls_per_s: float = 0.0
    key_messages_per_s: float = 0.0


@dataclass(frozen=True, slots=True)
class App:
    """An application, and the keys of its names.

    Attributes:
        id: names it in the configuration, and in its keys.
        pusher: what it has for Pusher's protocol; None if it does not speak that.
        key: returns the key of a name.
    """

    id: str = DEFAULT
    limits: AppLimits = AppLimits()
    pusher: PusherApp | None = None
    key: Callable[[str], str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check the id, and bind the maker of keys to it: a call makes up to ten keys.

        Raises:
            ValueError: it is not 1 to 32 lower-case letters, digits, dashes and underscores.
        """
        if not is_app_id(self.id):
            raise ValueError("an id has 1 to 32 lower-case letters, digits, dashes and underscores")
        object.__setattr__(self, "key", partial(make_key, self.id))

    def conn_id(self, drawn: str) -> str:
        """Return the connection id for a drawn one, by which `Apps.of_conn_id` finds this application."""
        return drawn if self.id == DEFAULT else f"{self.id}{_DOT}{drawn}"

    def member_key(self, channel: str, name: str) -> str:
        """Return the key of a name that counts in one channel only.

        Raises:
            ValueError: the channel has a name in which that is not possible (`make_member_key`).
        """
        return make_member_key(self.id, channel, name)

    def owns(self, key: str) -> bool:
        """Whether a key is one of this application."""
        return app_id_of(key) == self.id

    def keys(self, names: Sequence[str]) -> Sequence[str]:
        """Return the keys of names; `names` itself where each is its own key, which one look at all of them shows."""
        if self.id == DEFAULT and MARK not in "".join(names):
            return names
        return list(map(self.key, names))

    def keyed(self, event: E) -> E:
        """Return an event that names channel and users with their keys in place of the names."""
        user = None if isinstance(event, MessageDeleted) else event.user
        if self.id == DEFAULT and not (
            (event.channel is not None and MARK in event.channel)
            or (user is not None and MARK in user)
            or (event.only is not None and MARK in "".join(event.only))
            or (event.exclude is not None and MARK in "".join(event.exclude))
            or (event.exclude_connection is not None and MARK in event.exclude_connection)
        ):
            return event  # The key of each of its names is the name.
        changes: dict[str, Any] = {"only": self._keys(event.only), "exclude": self._keys(event.exclude)}
        if event.channel is not None:
            changes["channel"] = self.key(event.channel)
        if user is not None:
            changes["user"] = self.key(user)
        if event.exclude_connection is not None:
            changes["exclude_connection"] = self.key(event.exclude_connection)
        return replace(event, **changes)

    def _keys(self, names: Names | None) -> Names | None:
        return None if names is None else frozenset(map(self.key, names))


class Apps:
    """The applications of a server: the default one, and further ones."""

    def __init__(self, default: App, *further: App) -> None:
        self.default = default
        self._apps = {app.id: app for app in (default, *further)}
        if len(self._apps) <= len(further):
            raise ValueError("two applications have the same id")

    def __iter__(self) -> Iterator[App]:
        return iter(self._apps.values())

    def owner(self, key: str) -> App:
        """Return the application of this server that has this key."""
        return self._apps[app_id_of(key)]

    id_of: Callable[[str], str] = staticmethod(app_id_of)
    """Return the id of the application that has this key, whether it is one of this server or not."""

    @property
    def limits(self) -> dict[str, AppLimits]:
        """The limits of each application, by its id."""
        return {app.id: app.limits for app in self}

    def of_conn_id(self, conn_id: str) -> App:
        """Return the application to which a request belongs that shows this connection id and names no application.

        An id that the server has drawn for a further application begins with that one's id (`App.conn_id`). Any other id is
        taken for one of the default application.
        """
        app_id, dot, _ = conn_id.partition(_DOT)
        return self._apps.get(app_id, self.default) if dot else self.default

    def find(self, key: str) -> App | None:
        """Return the application that has this key; None if it is none of this server."""
        return self._apps.get(app_id_of(key))
