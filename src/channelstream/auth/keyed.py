"""Finds the key that a request names, with the rules of its application."""

from collections.abc import Callable, Mapping

from channelstream.apps.api_key import ApiKey
from channelstream.apps.app import App
from channelstream.apps.key_ring import KeyRing
from channelstream.auth.access import AppAccess, RequestSigning, check_address
from channelstream.auth.base import AuthRequest
from channelstream.errors import BadSignature

OnOlder = Callable[[str, str], None]
"""Takes the application whose older secret a request has, and the caller's address."""


class KeyFinder:
    """Finds keys for schemes whose requests name one."""

    def __init__(
        self,
        ring: KeyRing,
        rules: Mapping[str, AppAccess],
        wall: Callable[[], float],
        app: App | None = None,
        on_older: OnOlder = lambda app_id, address: None,
    ) -> None:
        """Create a finder.

        Args:
            ring: the keys of all applications; it may change.
            rules: the rules of each application, by its id.
            wall: returns epoch seconds.
            app: the application for which all requests are; None means that of the key.
            on_older: called for each request with an older secret.
        """
        self.wall = wall
        self._ring = ring
        self._rules = rules
        self._app = app
        self._on_older = on_older

    def find(self, key_id: str, request: AuthRequest, *forms: RequestSigning) -> tuple[ApiKey, AppAccess]:
        """Return the key with an id, and the rules of its application.

        Args:
            forms: the values of `request_signing` with which the scheme is accepted.

        Raises:
            Forbidden: no application may be called from the address of the request.
            BadSignature: the key is not accepted, or its application takes neither the scheme nor the address: the answer
                does not reveal that there is such a key.
        """
        address = request.address
        check_address(address, self._rules.values())
        key = self._ring.find(key_id, self.wall(), self._app)
        rules = self._rules[key.app.id]
        if rules.signing not in forms or not rules.allowed.has(address):
            raise BadSignature
        return key, rules

    def used(self, key: ApiKey, secret: str, request: AuthRequest) -> None:
        """Note with which secret of a key a request was proven."""
        if secret is not key.secret:
            self._on_older(key.app.id, request.address)
