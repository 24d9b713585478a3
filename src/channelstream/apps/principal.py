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
    """An application's server, or a stranger who has no rights.

    Attributes:
        app: the application for which it acts.
        rights: what it may do.
        key_id: the key that its request named; empty for the option `secret`, and for a stranger.
        is_proven: false if only the body proves it, before which no answer may reveal what it may do.
        binds_body: false if the proof has nothing to do with the body, so that `verify_body` need not be asked.
    """

    app: App
    rights: frozenset[Right] = frozenset()
    key_id: str = ""
    is_proven: bool = True
    binds_body: bool = True
