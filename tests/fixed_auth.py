"""Authentication that asks for nothing."""

from dataclasses import dataclass

from channelstream.apps.principal import Principal
from channelstream.auth.base import AuthRequest, Once


@dataclass
class FixedAuth:
    """Takes every request for one of this principal (`auth.base.RequestAuth`)."""

    of: Principal

    def principal(self, request: AuthRequest) -> Principal:
        return self.of

    def verify_body(self, request: AuthRequest, body: bytes) -> Once | None:
        """Accept any body."""
