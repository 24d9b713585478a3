"""What calls of the API have in common: rights, the check of their bodies, paths and answers."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import httpx
import pytest
from tests.fixed_auth import FixedAuth
from tests.waiting import PATIENCE_S

from channelstream.api.app import Api
from channelstream.api.call import Call
from channelstream.api.endpoints import ENDPOINTS
from channelstream.api.openapi import document
from channelstream.api.table import Auth, Endpoint
from channelstream.apps.app import App, AppLimits, Apps
from channelstream.apps.principal import ALL_RIGHTS, Principal, Right
from channelstream.auth.base import AuthRequest, Once, RequestAuth
from channelstream.config import Settings
from channelstream.core.http_head import read_head
from channelstream.core.policy import Policy
from channelstream.errors import BadSignature
from channelstream.http.asgi import RouterApp
from channelstream.http.request import Part
from channelstream.http.response import TEXT, Response
from channelstream.http.router import Router
from channelstream.server import build
from channelstream.service import Services

CALLS = [(row, method) for row in ENDPOINTS for method in row.methods]


class BodyBound(FixedAuth):
    """A scheme whose credentials are good for one body only."""

    def verify_body(self, request: AuthRequest, body: bytes) -> Once | None:
        if body != b"{}":
            raise BadSignature
        return None


def ask(
    auth: RequestAuth, method: str, target: str, body: bytes, rows: Sequence[Endpoint] = ENDPOINTS
) -> httpx.Response:
    """Call an API of these rows, all of whose schemes are this one; bodies have at most 100 bytes."""

    async def life() -> httpx.Response:
        services = Services(Apps(App()), build(Settings(secret="x", admin_secret="y")).node)
        api = Api(services, dict.fromkeys(Auth, auth), body_bytes=100)
        app = RouterApp(Router(Policy(), api.routes(rows)))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return await client.request(method, target, content=body)

    return asyncio.run(life())


def auth_of(rights: frozenset[Right]) -> FixedAuth:
    return FixedAuth(Principal(App(), rights=rights))


@pytest.mark.parametrize(
    ("row", "method"), CALLS, ids=lambda each: each if isinstance(each, str) else each.path
)
def test_a_call_takes_its_right(row: Endpoint, method: str) -> None:
    """All others together are refused, and it alone is enough; the body is too long, which shows only when it is read."""
    needed = frozenset({row.right} if row.right else ())
    assert ask(auth_of(needed), method, row.path, b"x" * 101).status_code == 413
    refused = ask(auth_of(ALL_RIGHTS - needed), method, row.path, b"x" * 101)
    assert refused.status_code == (403 if needed else 413)
    assert all(f"the right '{right.value}'." in refused.json()["error"] for right in needed)


def test_what_needs_credentials_needs_a_right() -> None:
    """A row that names a scheme and no right would admit every key."""
    assert [row.path for row in ENDPOINTS if (row.auth is Auth.NONE) != (row.right is None)] == []


def test_a_row_without_a_right_is_none() -> None:
    """A new one that forgets it does not open to every key."""
    with pytest.raises(ValueError, match="takes a right"):
        replace(ENDPOINTS[0], right=None)


@pytest.mark.parametrize(("body", "status"), [(b"{}", 200), (b"{ }", 401), (b"no JSON", 401)])
def test_a_scheme_may_refuse_a_body(body: bytes, status: int) -> None:
    """Before it is parsed."""
    auth = BodyBound(Principal(App(), rights=ALL_RIGHTS))
    assert ask(auth, "POST", "/info", body).status_code == status


def test_a_scheme_whose_proof_does_not_bind_the_body_is_not_asked_about_it() -> None:
    """Every other one is, which need not say so."""
    auth = BodyBound(Principal(App(), rights=ALL_RIGHTS, binds_body=False))
    assert ask(auth, "POST", "/info", b"{ }").status_code == 200
    assert Principal(App()).binds_body


class WholeBody:
    """A body that is there with its head."""

    async def receive(self) -> Part:
        return b"{}", False

    def take_whole(self) -> bytes:
        return b"{}"

    def line(self) -> None: ...


def test_no_call_without_proof_is_spared_its_right() -> None:
    """Also where a scheme says of a request that it is not proven, and that its body proves nothing."""

    async def life() -> Response | None:
        services = Services(Apps(App()), build(Settings(secret="x", admin_secret="y")).node)
        unproven = FixedAuth(Principal(App(), rights=frozenset(), is_proven=False, binds_body=False))
        router = Router(Policy(), Api(services, dict.fromkeys(Auth, unproven), 100).routes(ENDPOINTS))
        head = read_head(b"POST /info HTTP/1.1\r\nHost: x\r\n\r\n", ("127.0.0.1", 1))
        return await router.answer(router.request(head, WholeBody()))

    answer = asyncio.run(life())
    assert answer is not None
    assert answer.status == 403


async def describe_place(call: Call) -> Response:
    return Response(f"{call.parameters['room']} at {call.parameters['place']}".encode(), content_type=TEXT)


def test_an_endpoint_may_have_parameters_in_its_path_and_answer_with_text() -> None:
    """Its row is all that it takes besides the handler."""
    row = Endpoint(
        path="/rooms/{room}/places/{place}",
        methods=("GET",),
        handler=describe_place,
        right=Right.INFO,
        request=None,
        response=None,
        summary="Describe a place",
        description="Describes a place in a room.",
    )
    answer = ask(auth_of(ALL_RIGHTS), "GET", "/rooms/red/places/7", b"", [row])
    assert (answer.status_code, answer.text) == (200, "red at 7")
    assert answer.headers["content-type"] == "text/plain"
    [operation] = document([row], "1")["paths"][row.path].values()
    assert operation["operationId"] == "get_rooms__room__places__place_"
    assert [(each["name"], each["in"], each["required"]) for each in operation["parameters"]] == [
        ("room", "path", True),
        ("place", "path", True),
    ]


def test_a_call_beyond_a_limit_is_refused_later_and_others_are_answered_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So a caller that repeats it at once, whatever the answer says, keeps the process busy with nothing."""
    body = b'{"user":"u","channel":"c","message":1}'

    async def life() -> None:
        node = build(Settings(secret="x", admin_secret="y")).node
        await node.start()
        apps = Apps(App(), App("shop", AppLimits(messages_per_s=0.01)))
        services = Services(apps, node)
        blog, shop = (_client_of(services, app) for app in apps)
        async with blog, shop:
            assert (await shop.post("/message", content=body)).status_code == 200
            assert (await shop.post("/message", content=body)).status_code == 429
            monkeypatch.setattr("channelstream.api.app.LIMIT_PAUSE_S", PATIENCE_S)
            refused = asyncio.ensure_future(shop.post("/message", content=body))
            for _ in range(20):
                assert (await blog.post("/message", content=body)).status_code == 200
                await asyncio.sleep(0)
            assert not refused.done()
            refused.cancel()
        await node.close()

    asyncio.run(life())


def _client_of(services: Services, app: App) -> httpx.AsyncClient:
    """Return a client whose calls are all those of one application."""
    auth = FixedAuth(Principal(app, rights=ALL_RIGHTS))
    api = Api(services, dict.fromkeys(Auth, auth), body_bytes=100)
    transport = httpx.ASGITransport(RouterApp(Router(Policy(), api.routes(ENDPOINTS))))
    return httpx.AsyncClient(transport=transport, base_url="http://test")
