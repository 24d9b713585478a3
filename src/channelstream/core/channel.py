"""A channel: its settings, its members by user, its log for resuming and its visible history."""

from msgspec import Struct

from channelstream.core.budget import Budget
from channelstream.core.client_protocol import PresenceAudience
from channelstream.core.log import Log, LogLimits, limits_of

_NOBODY: dict[str, int] = {}
"""The users of each channel that nobody is in, as most are: a dict that was emptied takes 200 bytes. It is never changed."""


class ChannelSettings(Struct, frozen=True, kw_only=True):
    """Settings of a channel; the first six are those of 0.7.1, with its defaults.

    Attributes:
        notify_presence: all connections receive presence events; without it, those with `PresenceAudience.ALWAYS`.
        store_history: `/info` has the last messages.
        history_size: the number of these messages.
        broadcast_presence_with_user_lists: presence carries the list of all members.
        notify_state: members receive changes of the public state of members.
        store_frames: events are kept for resuming; without it only for the time between two polls.
        log_events: most events kept for resuming.
        log_age_s: longest time for which they are kept, in seconds.
    """

    notify_presence: bool = False
    store_history: bool = False
    history_size: int = 10
    broadcast_presence_with_user_lists: bool = False
    notify_state: bool = False
    store_frames: bool = True
    log_events: int = 1000
    log_age_s: float = 600.0

    def history_limits(self) -> LogLimits:
        return limits_of(self.history_size if self.store_history else 0)

    def log_limits(self, transit_s: float) -> LogLimits:
        """Return the bounds of the log.

        Args:
            transit_s: see `RegistryLimits`.
        """
        age_s = self.log_age_s if self.store_frames else 0.0
        return limits_of(self.log_events, max(age_s, transit_s))


class Channel:
    """A channel, as its engine knows it.

    Attributes:
        id: a UUID made by the server.
        users: number of connections by user name.
        always_connections: the number of them with `PresenceAudience.ALWAYS`.
        is_brief: it is forgotten soon after its last connection has left. Nothing would be missed: it never had an event,
            nobody has chosen its settings, and all who were in it are users to whom nobody comes back.
        last_active_s: epoch seconds of the last event, join or leave, for display.
        idle_since_s: the same moment by the engine's clock, for measuring the idle time.
        older: its neighbours in the order of idle channels, which `core.linked_order` sets; None at the ends, and while it
            has connections.
        newer: likewise.
    """

    __slots__ = (
        "_only_counted",
        "always_connections",
        "connections",
        "history",
        "id",
        "idle_since_s",
        "is_brief",
        "last_active_s",
        "log",
        "name",
        "newer",
        "older",
        "settings",
        "users",
    )

    def __init__(
        self,
        name: str,
        channel_id: str,
        settings: ChannelSettings,
        limits: LogLimits,
        budget: Budget,
        floor: int,
        now_s: float,
    ) -> None:
        self.name = name
        self.id = channel_id
        self.settings = settings
        self.users = _NOBODY
        self._only_counted = 0
        self.connections = 0
        self.always_connections = 0
        self.is_brief = False
        self.last_active_s = now_s
        self.idle_since_s = 0.0
        self.older: Channel | None = None
        self.newer: Channel | None = None
        self.log = Log(limits, budget, floor)
        self.history = Log(settings.history_limits(), budget, floor)

    @property
    def user_count(self) -> int:
        return len(self.users) or self._only_counted

    def set_user_count(self, users: int) -> None:
        """Set the number of users where their names were not requested."""
        self._only_counted = users

    def join(self, user: str, presence: PresenceAudience) -> bool:
        """Add a connection; True if it is the first of the user."""
        users = self.users
        if users is _NOBODY:
            self.users = users = {}
        before = users.get(user, 0)
        users[user] = before + 1
        self.connections += 1
        self.always_connections += presence is PresenceAudience.ALWAYS
        return before == 0

    def leave(self, user: str, presence: PresenceAudience) -> bool:
        """Remove a connection; True if it was the last of the user."""
        left = self.users[user] - 1
        self.connections -= 1
        self.always_connections -= presence is PresenceAudience.ALWAYS
        if left:
            self.users[user] = left
            return False
        del self.users[user]
        if not self.users:
            self.users = _NOBODY
        return True

    def configure(self, settings: ChannelSettings, limits: LogLimits, steady_s: float) -> None:
        """Change the settings; the logs drop what exceeds the new bounds, with `steady_s` as the current time."""
        self.settings = settings
        self.log.limit(limits, steady_s)
        self.history.limit(settings.history_limits(), steady_s)
