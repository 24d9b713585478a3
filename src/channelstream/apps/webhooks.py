"""The receivers of an application's webhooks."""

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from channelstream.apps.pusher_app import PusherApp

TYPES = {
    "occupied": "channel.occupied",
    "vacated": "channel.vacated",
    "added": "member.added",
    "removed": "member.removed",
    "online": "user.online",
    "offline": "user.offline",
    "opened": "connection.opened",
    "closed": "connection.closed",
    "client_event": "client.event",
    "message": "message.accepted",
    "cache_miss": "cache.missed",
}
"""The name of each kind of fact (`core/facts.py`) in options and in bodies."""
PUSHER_TYPES = {
    "occupied": "channel_occupied",
    "vacated": "channel_vacated",
    "added": "member_added",
    "removed": "member_removed",
    "client_event": "client_event",
    "cache_miss": "cache_miss",
}
"""The name of each kind of fact that Pusher's format has."""


@dataclass(frozen=True, slots=True)
class Receiver:
    """A URL to which webhooks are sent.

    Attributes:
        kinds: the facts that it is sent.
        secrets: sign its calls, the newest first; more than one while they are changed. None for Pusher's format.
        pusher: Pusher's format is sent, with this key and secret; None for the format of Standard Webhooks.
        batching: a call may have many facts.
        networks: networks that are not public and yet may be called.
    """

    app_id: str
    url: str
    kinds: frozenset[str]
    secrets: tuple[bytes, ...] = field(default=(), repr=False)
    pusher: PusherApp | None = None
    batching: bool = True
    networks: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Its name as a consumer of the outbox."""
        return f"{self.app_id} {'pusher' if self.pusher else 'standard'} {self.url}"

    @property
    def label(self) -> str:
        """Its URL for people and logs, without a query, which may have a secret."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}{parts.path}"
