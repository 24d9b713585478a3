"""Rights: each call takes one, and is refused without it before its body is read."""

import asyncio

import httpx
import pytest

from channelstream.api.app import Api
from channelstream.api.endpoints import ENDPOINTS
from channelstream.api.table import Auth, Endpoint
from channelstream.apps.app import App, Apps
from channelstream.apps.principal import ALL_RIGHTS, Principal, Right
from channelstream.auth.base import AuthRequest
from channelstream.config import Settings
from channelstream.core.policy import Policy
from channelstream.http.asgi import RouterApp
from channelstream.http.router import Router
from channelstream.server import build
from channelstream.service import Services

CALLS = [(row, method) for row in ENDPOINTS for method in row.methods]


class Limited:
    """Takes every request for one with these rights (`auth.base.RequestAuth`)."""

    def __init__(self, rights: frozenset[Right]) -> None:
        self._principal = Principal(App(), rights=rights)

    def principal(self, request: AuthRequest) -> Principal:
        return self._principal

    def verify_body(self, principal: Principal, body: bytes) -> None:
        pass


def ask(rights: frozenset[Right], row: Endpoint, method: str, body: bytes) -> httpx.Response:
    async def life() -> httpx.Response:
        services = Services(Apps(App()), build(Settings(secret="x", admin_secret="y")).node)
        api = Api(services, dict.fromkeys(Auth, Limited(rights)), body_bytes=100)
        app = RouterApp(Router(Policy(), api.routes(ENDPOINTS)))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return await client.request(method, row.path, content=body)

    return asyncio.run(life())


@pytest.mark.parametrize(
    ("row", "method"), CALLS, ids=lambda each: each if isinstance(each, str) else each.path
)
def test_a_call_takes_its_right(row: Endpoint, method: str) -> None:
    """All others together are refused, and it alone is enough; the body is too long, which shows only when it is read."""
    needed = frozenset({row.right} if row.right else ())
    assert ask(needed, row, method, b"x" * 101).status_code == 413
    refused = ask(ALL_RIGHTS - needed, row, method, b"x" * 101)
    assert refused.status_code == (403 if needed else 413)
    assert all(f"the right {right}" in refused.json()["error"] for right in needed)


def test_what_needs_credentials_needs_a_right() -> None:
    """A row that names a scheme and no right would admit every key."""
    assert [row.path for row in ENDPOINTS if (row.auth is Auth.NONE) != (row.right is None)] == []
