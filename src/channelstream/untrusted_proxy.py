"""Says in the log that a proxy on this machine is not in `trusted_proxies`."""

import logging
from collections.abc import Iterable

from channelstream.apps.principal import Principal
from channelstream.auth.base import AuthRequest, Once, RequestAuth
from channelstream.config import Settings, weak_secrets
from channelstream.config.applications import sections
from channelstream.core.addresses import LOOPBACK
from channelstream.core.policy import FORWARDING

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

    def watched(self, auth: RequestAuth) -> RequestAuth:
        """Return the authentication of calls, which notes such a proxy if a public default value signs any of them.

        Such calls are accepted, as in version 0.7. `weak_secrets` warns at the start where there are trusted proxies.
        """
        is_open = not self._settings.trusted_proxies and any(self._public_secrets())
        return _WatchedAuth(auth, self) if is_open else auth

    def _public_secrets(self) -> Iterable[tuple[str, str]]:
        for where, own in sections(self._settings):
            for name in weak_secrets.known_secrets(own):
                yield where, name


class _WatchedAuth:
    """Another authentication (`auth.base.RequestAuth`), whose callers may come through a proxy on this machine."""

    def __init__(self, auth: RequestAuth, proxy: UntrustedProxy) -> None:
        self._auth = auth
        self._proxy = proxy

    def principal(self, request: AuthRequest) -> Principal:
        principal = self._auth.principal(request)
        if not FORWARDING.isdisjoint(dict(request.headers)) and LOOPBACK.has(request.address):
            self._proxy.seen(request.address)
        return principal

    def verify_body(self, request: AuthRequest, body: bytes) -> Once | None:
        return self._auth.verify_body(request, body)
