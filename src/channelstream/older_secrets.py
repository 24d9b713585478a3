"""Says in the log who still signs with an older secret of a file, so that an operator knows when it may go."""

import logging
from collections import defaultdict
from collections.abc import Callable

from channelstream.core.line_limit import LineLimit

logger = logging.getLogger(__name__)


class OlderSecrets:
    """The uses of older secrets at this node."""

    def __init__(self, steady: Callable[[], float]) -> None:
        """Begin without a use.

        Args:
            steady: returns the seconds of a clock that only goes on.
        """
        self._steady = steady
        self._limits = defaultdict[tuple[str, str], LineLimit](LineLimit)

    def used(self, app_id: str, address: str) -> None:
        """Note that a call of an application was signed with an older one of `secret_file`, from an address."""
        self._used(app_id, address, "secret_file")

    def used_of_pusher(self, app_id: str, address: str) -> None:
        """Note that a call of Pusher's API was signed with an older secret of `pusher_secret_file`, from an address."""
        self._used(app_id, address, "pusher_secret_file")

    def _used(self, app_id: str, address: str, option: str) -> None:
        limit = self._limits[app_id, option]
        if limit.admits(self._steady()):
            logger.warning(
                "a caller of the application %r at %s signs with an older secret (%s)%s",
                app_id,
                address,
                option,
                limit.take_omitted(),
            )
