"""A client that acts for itself: what its token says about it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from channelstream.apps.app import App
from channelstream.apps.grants import NO_GRANTS, Grants
from channelstream.apps.principal import Right


@dataclass(frozen=True, slots=True)
class Client:
    """Who a client is, what it may do by itself, and for how long.

    Attributes:
        app: the application that it belongs to.
        user: its user.
        expires_s: the time from which its token is refused, in seconds since the epoch.
        channels: what it joins when its connection opens.
        state: what its connection sets of the user's state.
        public: the keys of the state that others may see; None leaves them as they are.
        token_id: names the token, for a revocation; empty if it has no name.
        issued_s: when the token was made; None if it does not say.
        key_id: the key of the application that has signed the token, as in `ApiKey.id`; None if an issuer has.
        signed_with: the fingerprint of the secret that has; empty if it is not known.
    """

    app: App
    user: str
    expires_s: float
    grants: Grants = NO_GRANTS
    channels: tuple[str, ...] = ()
    state: Mapping[str, Any] = field(default_factory=dict)
    public: tuple[str, ...] | None = None
    token_id: str = ""
    issued_s: float | None = None
    key_id: str | None = None
    signed_with: str = ""

    def beyond(self, rights: frozenset[Right]) -> Iterator[tuple[str, Right]]:
        """Yield each claim of its token that its key may not make, and the right for it: nobody grants what it may not do.

        Args:
            rights: those of the key that has signed the token.
        """
        grants = self.grants
        claims = (
            ("publish", grants.publish.texts, Right.PUBLISH),
            ("history", grants.history.texts, Right.INFO),
            ("presence", grants.presence.texts, Right.INFO),
            ("state", self.state, Right.STATE),
        )
        return ((claim, right) for claim, value, right in claims if value and right not in rights)

    def left_s(self, now_s: float) -> float:
        """Return for how many seconds its token is still valid; 0 if it has expired."""
        return max(0.0, self.expires_s - now_s)
