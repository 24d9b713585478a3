"""Says in the log who still signs with an older secret of `secret_file`, so that an operator knows when it may go."""

import logging
from collections.abc import Callable

EVERY_S = 60.0
"""Shortest time between two lines about one application, in seconds."""

logger = logging.getLogger(__name__)


class OlderSecrets:
    """The uses of older secrets at this node."""

    def __init__(self, steady: Callable[[], float]) -> None:
        """Create it.

        Args:
            steady: returns the seconds of a clock that only goes on.
        """
        self._steady = steady
        self._next_s: dict[str, float] = {}

    def used(self, app_id: str, address: str) -> None:
        """Note that a call of an application was signed so, from an address."""
        now_s = self._steady()
        if now_s >= self._next_s.get(app_id, now_s):
            self._next_s[app_id] = now_s + EVERY_S
            logger.warning(
                "a caller of the application %r at %s signs with an older secret (secret_file)",
                app_id,
                address,
            )
