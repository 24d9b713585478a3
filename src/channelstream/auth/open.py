"""Calls that need no credentials of the application, because their argument is one: the conn_id of `/disconnect`."""

from channelstream.apps.app import App
from channelstream.apps.principal import Principal
from channelstream.auth.base import AuthRequest


class OpenAuth:
    """Takes every request for one of a stranger, who has no rights (`auth.base.RequestAuth`)."""

    def __init__(self, app: App) -> None:
        self._stranger = Principal(app, binds_body=False)

    def principal(self, request: AuthRequest) -> Principal:
        return self._stranger

    def verify_body(self, request: AuthRequest, body: bytes) -> None:
        """Accept any body."""
