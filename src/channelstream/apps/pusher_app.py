"""An application as clients and SDKs of Pusher know it."""

from collections.abc import Iterable
from dataclasses import dataclass, field


class PusherSecrets:
    """The secrets that are accepted; their file may change them while the server runs."""

    __slots__ = ("_accepted",)

    def __init__(self, *accepted: str) -> None:
        """Accept these; see `replace`."""
        self._accepted = accepted

    def replace(self, accepted: Iterable[str]) -> None:
        """Accept these, the newest one first, in place of all others."""
        self._accepted = tuple(accepted)

    @property
    def accepted(self) -> tuple[str, ...]:
        """All secrets that are accepted, the newest one first."""
        return self._accepted

    @property
    def newest(self) -> str:
        """The secret with which this server signs."""
        return self._accepted[0]

    @property
    def oldest(self) -> str:
        """The secret of which connection ids are made, so that a newer one leaves these as they are."""
        return self._accepted[-1]


@dataclass(frozen=True, slots=True)
class PusherApp:
    """What an application has for Pusher's protocol.

    Attributes:
        id: digits; names it in the paths of the REST API.
        key: names it in the paths of clients; public.
        secrets: sign what clients may do, and the calls of the REST API.
        client_events: clients may send events.
        client_events_per_s: how many each of them may send in a second, and at once.
        activity_timeout_s: silence after which clients ask whether the server is there.
        path_prefix: what may precede the paths of clients and calls.
        channel_prefix: precedes the names of Pusher's channels in the names of the application's channels; if it is not
            empty, it ends with a slash.
    """

    id: str
    key: str
    secrets: PusherSecrets = field(repr=False, compare=False)
    client_events: bool = True
    client_events_per_s: float = 10.0
    activity_timeout_s: int = 120
    channel_prefix: str = "pusher/"
    path_prefix: str = ""

    @property
    def key_id(self) -> str:
        """The id of its key among the API keys of the application, none of which has a colon."""
        return f"pusher:{self.key}"

    def channel(self, name: str) -> str:
        """Return the name of the application's channel for a channel of Pusher."""
        return self.channel_prefix + name

    def pusher_name(self, channel: str) -> str:
        """Return the name that Pusher's clients know of a channel of the application, one with the prefix."""
        return channel.removeprefix(self.channel_prefix)
