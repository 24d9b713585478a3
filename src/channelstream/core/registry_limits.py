"""The bounds of channels, users and their logs, and how long idle ones are kept, with a registry and without one."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RegistryLimits:
    """Bounds of everything that a registry keeps.

    Attributes:
        log_bytes: size of all logs and histories together.
        log_events: entries of a channel's log, unless its settings have another bound.
        log_age_s: age of its entries in seconds, likewise.
        user_log_events: private messages kept for each user.
        transit_s: longest time of a connection between two polls, in seconds. Entries of any log are kept for that long,
            since a poll reads them from it.
        history_size: longest history that a channel can be configured to have.
    """

    log_bytes: int = 268_435_456
    log_events: int = 1000
    log_age_s: float = 600.0
    user_log_events: int = 200
    transit_s: float = 15.0
    history_size: int = 1000

    @property
    def private_age_s(self) -> float:
        """Age of a user's private messages, in seconds."""
        return max(self.log_age_s, self.transit_s)


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long idle users and empty channels are kept, in seconds; 0 keeps them for ever."""

    users_s: float = 86_400.0
    channels_s: float = 259_200.0
