"""Who acts: what authentication finds out about a request, and authorization asks."""

from dataclasses import dataclass
from enum import StrEnum

from channelstream.apps.app import App


class Right(StrEnum):
    """What a principal may do."""

    CONNECT = "connect"
    """Register, change and end connections."""
    PUBLISH = "publish"
    """Publish, edit and delete messages."""
    STATE = "state"
    """Change users and settings of channels."""
    INFO = "info"
    """Read channels, users and histories."""
    ADMIN = "admin"
    """Use the admin pages of the application."""


ALL_RIGHTS = frozenset(Right)


@dataclass(frozen=True, slots=True)
class Principal:
    """An application's server, or one of its users.

    Attributes:
        app: the application for which it acts.
        user: the name of the user; None for the application's own server.
        rights: what it may do.
    """

    app: App
    user: str | None = None
    rights: frozenset[Right] = frozenset()
