"""The pages over a push server that records its calls, without a socket."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import httpx
import pytest
from msgspec.structs import asdict
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from channelstream.admin.acts import Acts
from channelstream.admin.listing import PageRequest
from channelstream.admin.panel import Reading
from channelstream.admin.receivers import Receivers
from channelstream.admin.traces import Traces
from channelstream.config import Settings
from channelstream.core.request_signing import SCHEME, RequestSignature, hash_of
from channelstream.errors import Invalid, Unavailable
from channelstream.http.address_rates import AddressLimits, AddressRates
from channelstream.http.asgi import IS_LOCAL
from channelstream.integrations.metrics.scraper import Scraper
from channelstream.pages.access import ReadBody
from channelstream.pages.act import Act
from channelstream.site import PageNeeds, routes

SECRET = "the api's secret"
DOCUMENT = (b'{"total_connections":3,', b'"uptime":"0:00:01"}')


@dataclass
class RecordingServer:
    """Stands for the push server behind the demo: checks the signature, records the call, echoes the body."""

    calls: list[tuple[str, str, Any]] = field(default_factory=list)
    status: int = 200

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        content = await request.body()
        signature = RequestSignature.read(request.headers["authorization"].removeprefix(f"{SCHEME} "))
        assert signature is not None
        assert signature.is_genuine(SECRET, request.method, request.url.path.encode(), hash_of(content))
        body = json.loads(content)
        self.calls.append((request.method, request.url.path, body))
        await JSONResponse(body, self.status)(scope, receive, send)


@dataclass
class Panel:
    """Stands for the server's data of itself: answers a little, and records its calls."""

    asked: list[Any] = field(default_factory=list)

    async def document(self) -> Sequence[bytes]:
        return DOCUMENT

    async def table(self, name: str, asked: PageRequest) -> dict[str, Any]:
        self.asked.append(
            (name, asked.search, asked.sort, asked.descending, asked.page, asked.only.get("state"))
        )
        return {"rows": []}

    async def detail(self, kind: str, name: str) -> dict[str, Any] | None:
        self.asked.append((kind, name))
        return {"name": name} if name == "known" else None

    @property
    def readings(self) -> dict[str, Reading]:
        names = ("busiest", "endings", "keys", "refused", "slow_clients", "slow_turns")
        return dict.fromkeys(names, self._read)

    async def _read(self) -> list[dict[str, Any]]:
        return [{"reason": "too slow"}]

    async def act(self, action: str, body: bytes, admin: str) -> Any:
        self.asked.append((action, body))
        if body == b"[]":
            raise Invalid({"channel": ["Missing."]})
        return True

    def watch(self) -> AsyncIterator[dict[str, Any]]:
        if "full" in self.asked:
            raise Unavailable("Too many.", retry_after_s=5)
        return self._watch()

    async def _watch(self) -> AsyncIterator[dict[str, Any]]:
        for number in range(2):
            yield {"figures": {"connections": number}}


def openapi() -> dict[str, Any]:
    return {"openapi": "3.1.0", "paths": {"/message": {}, "/info": {}}}


async def signed_by(request: Request, read_body: ReadBody) -> str | None:
    return "key test" if request.headers.get("x-channelstream-secret") == "signed" else None


async def nothing(request: Request, read_body: ReadBody) -> None:
    """Say that nothing has signed a request."""


class NoTraces(Traces):
    """Stands for the traces of a service without any."""

    def __init__(self) -> None:
        """Ask no node."""

    def check(self, kind: str, name: str) -> None:
        """Accept any."""

    async def listing(self) -> list[dict[str, Any]]:
        return []


class NoReceivers(Receivers):
    """Stands for the receivers of an application; its only dead letter is `a`, and `r` refuses two events."""

    def __init__(self) -> None:
        """Ask no node."""

    async def read(self) -> dict[str, Any]:
        return {"sender": None, "receivers": [], "letters": []}

    async def send_again(self, ids: Collection[str]) -> dict[str, int]:
        return {"https://one.example/": 1} if "a" in ids else {}

    async def give_up_refused(self, receiver_id: str) -> dict[str, int]:
        return {"https://one.example/": 2} if receiver_id == "r" else {}


class RecordedActs(Acts):
    """Keeps what is recorded."""

    def __init__(self) -> None:
        self.recorded: list[Act] = []

    def record(self, act: Act) -> None:
        self.recorded.append(act)

    async def read(self) -> list[dict[str, Any]]:
        return list(map(asdict, self.recorded))


@pytest.fixture
def acts() -> RecordedActs:
    return RecordedActs()


@pytest.fixture
def push_server() -> RecordingServer:
    return RecordingServer()


@pytest.fixture
def settings() -> Settings:
    return Settings(
        secret=SECRET, admin_secret="open sesame", admin_reader_secret="peep", cookie_secret="crumbs"
    )


@pytest.fixture
def panel() -> Panel:
    return Panel()


@pytest.fixture
def app(settings: Settings, push_server: RecordingServer, panel: Panel, acts: RecordedActs) -> Starlette:
    return Starlette(routes=routes(settings, page_needs(settings, push_server, panel, acts)))


def page_needs(
    settings: Settings, push_server: RecordingServer, panel: Panel, acts: RecordedActs
) -> PageNeeds:
    return PageNeeds(
        api=push_server,
        panel=panel,
        openapi=openapi,
        signed_by=signed_by,
        traces=NoTraces(),
        receivers=NoReceivers(),
        acts=acts,
        scraper=cast(Scraper, None),
        failures=AddressRates(AddressLimits()).failed_sign_ins(),
        secret=lambda: settings.secret,
    )


class Bridge(httpx.BaseTransport):
    """Lets a plain client on this machine call an ASGI application, one event loop for each request."""

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        async def local(scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, IS_LOCAL: True}, receive, send)

        self._transport = httpx.ASGITransport(local, root_path=prefix)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return asyncio.run(self._answer(request))

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        answer = await self._transport.handle_async_request(request)
        # As it was sent: a decoded body would not fit its Content-Encoding.
        sent = b"".join([part async for part in answer.aiter_raw()])
        return httpx.Response(answer.status_code, headers=answer.headers, content=sent)


@pytest.fixture
def open_browser(app: Starlette) -> Callable[..., httpx.Client]:
    """Open a browser: it keeps cookies and follows no redirects."""

    def open_browser(url: str = "http://push.test", prefix: str = "", **options: Any) -> httpx.Client:
        return httpx.Client(transport=Bridge(app, prefix), base_url=url, **options)

    return open_browser


@pytest.fixture
def browser(open_browser: Callable[..., httpx.Client]) -> httpx.Client:
    return open_browser()


@pytest.fixture
def other_browser(open_browser: Callable[..., httpx.Client]) -> httpx.Client:
    return open_browser()
