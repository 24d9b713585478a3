"""How much an application may do in a second on this node."""

from collections.abc import Callable
from math import ceil

from channelstream.apps.app import AppLimits
from channelstream.core.token_bucket import TokenBucket
from channelstream.errors import TooManyRequests


def rate_text(per_s: float, unit: str) -> str:
    """Return how much a rate allows, for a refusal.

    Args:
        unit: in the singular.
    """
    return f"{per_s:.15g} {unit}{'' if per_s == 1 else 's'} in a second"


class Rates:
    """The rates of one application.

    Attributes:
        refused: messages that were refused since the start.
    """

    def __init__(self, limits: AppLimits, clock: Callable[[], float]) -> None:
        """Create rates that are not used yet.

        Args:
            clock: returns seconds of a clock that never jumps.
        """
        self.refused = 0
        self._clock = clock
        per_s = limits.messages_per_s
        self._messages = TokenBucket(per_s, now_s=clock()) if per_s else None

    def check_messages(self, count: int) -> None:
        """Count messages that are about to be published.

        Raises:
            TooManyRequests: there are too many; none of them is counted.
        """
        if self._messages is None:
            return
        wait_s = self._messages.take(count, self._clock())
        if wait_s:
            self.refused += count
            raise TooManyRequests(
                f"This application may publish {rate_text(self._messages.per_s, 'message')}; send them later.",
                ceil(wait_s),
            )
