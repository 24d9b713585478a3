"""Reports what an authentication refuses, for those who count it, or bound how often it happens."""

from collections.abc import Callable

from channelstream.apps.principal import Principal
from channelstream.auth.base import AuthRequest, Once, RequestAuth
from channelstream.errors import BadSignature, Forbidden

OnRefusal = Callable[[AuthRequest, Forbidden | BadSignature], None]
"""Takes a request and why it is refused; may raise another refusal in place of that one."""


class ReportingAuth:
    """Another authentication, which reports what it refuses (`auth.base.RequestAuth`)."""

    def __init__(self, auth: RequestAuth, on_refusal: OnRefusal) -> None:
        self._auth = auth
        self._on_refusal = on_refusal

    def principal(self, request: AuthRequest) -> Principal:
        try:
            return self._auth.principal(request)
        except (Forbidden, BadSignature) as error:
            self._on_refusal(request, error)
            raise

    def verify_body(self, request: AuthRequest, body: bytes) -> Once | None:
        try:
            return self._auth.verify_body(request, body)
        except BadSignature as error:
            self._on_refusal(request, error)
            raise
