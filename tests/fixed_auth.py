"""Authentication that asks for nothing."""

from dataclasses import dataclass

from channelstream.apps.principal import Principal
from channelstream.auth.base import AuthRequest


@dataclass
class FixedAuth:
    """Takes every request for one of this principal (`auth.base.RequestAuth`)."""

    of: Principal

    def principal(self, request: AuthRequest) -> Principal:
        return self.of

    def verify_body(self, principal: Principal, body: bytes) -> None:
        """Accept any body."""
