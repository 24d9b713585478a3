"""Says in the log that a proxy on this machine is not in `trusted_proxies`."""

import logging
from collections.abc import Iterable

from channelstream.config import Settings, safety, weak_secrets

logger = logging.getLogger(__name__)


class UntrustedProxy:
    """Such a proxy: by their addresses its callers would be taken for callers on this machine.

    Attributes:
        was_seen: whether it has passed a request on.
    """

    def __init__(self, settings: Settings) -> None:
        self.was_seen = False
        self._settings = settings

    def seen(self, peer: str) -> None:
        """Note that it has passed a request on; the first time the log says what to set.

        Args:
            peer: its address.
        """
        if self.was_seen:
            return
        self.was_seen = True
        logger.warning(
            "a proxy on this machine passes on requests of others, and is not in trusted_proxies: all its callers have its "
            "address; set trusted_proxies = %s%s",
            ", ".join((*self._settings.trusted_proxies, peer)),
            "".join(f"; {where} {name} has a public default value" for where, name in self._public_secrets()),
        )

    def _public_secrets(self) -> Iterable[tuple[str, str]]:
        for where, own in safety.sections(self._settings):
            for name in weak_secrets.known_secrets(own):
                yield where, name
