"""A channel: its settings, its members by user, its log for resuming and its visible history."""

from msgspec import Struct

from channelstream.core.log import Budget, Log, LogLimits


class ChannelSettings(Struct, frozen=True, kw_only=True):
    """How a channel behaves; the first six are those of 0.7.1, with its defaults.

    Attributes:
        notify_presence: connections of the 0.7 dialect hear who joins and parts.
        store_history: `/info` shows the last messages.
        history_size: how many.
        broadcast_presence_with_user_lists: presence carries the list of all members.
        notify_state: members hear changes of other members' public state.
        store_frames: events are kept for catching up; without it only for as long as a poll may be away.
        log_events: events kept for resuming.
        log_age_s: how long they are kept, in seconds.
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
        return LogLimits(self.history_size if self.store_history else 0)

    def log_limits(self, transit_s: float) -> LogLimits:
        """Return what the log keeps.

        Args:
            transit_s: how long a connection may be between two polls; for that long events are always kept, since
                delivery itself reads them from the log.
        """
        age_s = self.log_age_s if self.store_frames else 0.0
        return LogLimits(self.log_events, max(age_s, transit_s))


class Channel:
    """One channel as its engine knows it.

    Attributes:
        id: a UUID made by the server.
        users: number of connections by user name.
        seed_connections: how many of them speak the seed dialect, which hears presence without asking.
        last_active_s: epoch seconds of the last event, join or part, to be shown.
        idle_since_s: the same moment by the engine's clock, to measure how long ago it was.
    """

    __slots__ = (
        "_only_counted",
        "connections",
        "history",
        "id",
        "idle_since_s",
        "last_active_s",
        "log",
        "name",
        "seed_connections",
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
        self.users: dict[str, int] = {}
        self._only_counted = 0
        self.connections = 0
        self.seed_connections = 0
        self.last_active_s = now_s
        self.idle_since_s = 0.0
        self.log = Log(limits, budget, floor)
        self.history = Log(settings.history_limits(), budget, floor)

    @property
    def user_count(self) -> int:
        return len(self.users) or self._only_counted

    def set_user_count(self, users: int) -> None:
        """Have so many users without knowing them, as nobody asked who they are."""
        self._only_counted = users

    def join(self, user: str, seed: bool) -> bool:
        """Count one more connection; True when it is the user's first."""
        before = self.users.get(user, 0)
        self.users[user] = before + 1
        self.connections += 1
        self.seed_connections += seed
        return before == 0

    def leave(self, user: str, seed: bool) -> bool:
        """Count one connection less; True when it was the user's last."""
        left = self.users[user] - 1
        self.connections -= 1
        self.seed_connections -= seed
        if left:
            self.users[user] = left
            return False
        del self.users[user]
        return True

    def configure(self, settings: ChannelSettings, limits: LogLimits, steady_s: float) -> None:
        """Change the settings; logs shrink at once where they must, by the time their entries are aged by."""
        self.settings = settings
        self.log.limit(limits, steady_s)
        self.history.limit(settings.history_limits(), steady_s)
