"""The pages of a server: admin, demo and API explorer, with what they share."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from channelstream.admin.actions import ACTIONS
from channelstream.admin.acts import Acts
from channelstream.admin.data import AdminData
from channelstream.admin.metrics import MetricsPage
from channelstream.admin.pages import Admin
from channelstream.admin.panel import DETAILS, Panel
from channelstream.admin.receivers import Receivers
from channelstream.admin.trace import TracePage
from channelstream.admin.traces import Traces
from channelstream.admin.webhooks import WebhooksPage
from channelstream.call_signing import CallSigner
from channelstream.config import Settings
from channelstream.config.cookies import cookie_secret_or_drawn, is_drawn
from channelstream.demo.app import Demo
from channelstream.demo.push_server import PushServer
from channelstream.explorer.page import Explorer
from channelstream.http.address_rates import AddressRate
from channelstream.integrations.metrics.scraper import Scraper
from channelstream.pages.access import Account, Gate, SignedBy
from channelstream.pages.assets import Assets
from channelstream.pages.html import Renderer, redirect
from channelstream.pages.row import PageRight, Row
from channelstream.pages.signin import SignIn
from channelstream.pages.throttle import Throttle

if TYPE_CHECKING:
    import httpx


PARTS = tuple(Path(__file__).parent / name for name in ("admin", "demo", "explorer"))
"""The folders with templates and assets of their own."""


_TABLES = ("channels", "users", "connections")
OF_APP = frozenset(
    {
        *(f"/admin/{part}{name}" for part in ("", "data/") for name in (*_TABLES, *DETAILS)),
        *(
            f"/admin/data/{name}"
            for name in ("acts", "busiest", "endings", "keys", "refused", "slow_clients", "webhooks")
        ),
        *("/admin/acts", "/admin/webhooks", "/admin/do/send_webhooks_again", "/admin/do/give_up_webhooks"),
        *(f"/admin/do/{name}" for name in ACTIONS),
        *(f"/admin/trace{part}" for part in ("", "/live", ".json")),
        *("/admin/live", "/api-explorer", "/openapi.json", "/admin/sign", "/metrics"),
    }
)
"""The guarded pages that further applications have: they show nothing of other applications, nor of the whole server."""


async def _to_channels(request: Request) -> Response:
    return redirect(request, "/admin/channels")


_OVERVIEW = Row("/admin", _to_channels, PageRight.LOOK)
"""In place of the overview, which shows how busy the whole server is."""


@cache
def assets() -> Assets:
    """Return the assets of all pages. Their files are read once."""
    return Assets({part.name: part / "static" for part in PARTS})


@dataclass(frozen=True, slots=True)
class PageNeeds:
    """What the pages of an application need of the server.

    Attributes:
        api: its part of the server as an ASGI application; the demo calls it as any application does.
        panel: data and actions of the admin pages.
        openapi: returns the OpenAPI document; called in a thread.
        signed_by: returns what signed a request, if the signature is valid and from an allowed address; else None.
        traces: starts and describes the traces of `/admin/trace`.
        receivers: those of its webhooks.
        acts: records what admins do.
        scraper: answers `/metrics`.
        failures: how often an address may fail to sign in.
        secret: returns that with which the demo and the API explorer sign.
    """

    api: ASGIApp
    panel: Panel
    openapi: Callable[[], dict[str, Any]]
    signed_by: SignedBy
    traces: Traces
    receivers: Receivers
    acts: Acts
    scraper: Scraper
    failures: AddressRate
    secret: Callable[[], str]


def routes(settings: Settings, needs: PageNeeds, app_id: str = "") -> list[BaseRoute]:
    """Return the routes of every page of an application.

    Args:
        settings: its options.
        app_id: of a further application; its pages are those of `OF_APP`, and its overview is the table of channels.
    """
    cookie_secret = cookie_secret_or_drawn(settings.cookie_secret)
    files = assets()
    renderer = Renderer(
        [part / "templates" for part in PARTS],
        files.url,
        demo=settings.serves_demo,
        keeps_sign_ins=not is_drawn(cookie_secret),
        app_id=app_id,
    )
    signer = CallSigner(needs.secret, is_old=settings.request_signing == "old")
    accounts = [
        Account(settings.admin_user, settings.admin_secret, may_change=True),
        Account(settings.admin_reader_user, settings.admin_reader_secret, may_change=False),
    ]
    record = needs.acts.record
    gate = Gate(accounts, cookie_secret, needs.signed_by, Throttle(needs.failures), record, app_id)
    guarded = [
        *Admin(renderer).rows(),
        *AdminData(needs.panel, needs.acts).rows(),
        *TracePage(renderer, needs.traces, record).rows(),
        *WebhooksPage(renderer, needs.receivers, record).rows(),
        *MetricsPage(needs.scraper, settings.metrics_allow, app_id).rows(),
        *Explorer(renderer, needs.openapi, signer, record).rows(),
    ]
    if app_id:
        guarded = [_OVERVIEW, *(row for row in guarded if row.path in OF_APP)]
    return [
        Route("/", _landing(renderer), methods=["GET"]),
        *files.routes(),
        *SignIn(gate, renderer, record).routes(),
        *gate.routes(guarded),
        *(_demo(settings, needs.api, signer, renderer, cookie_secret) if settings.serves_demo else []),
    ]


def _demo(
    settings: Settings, api: ASGIApp, signer: CallSigner, renderer: Renderer, cookie_secret: str
) -> list[BaseRoute]:
    scheme = "https" if settings.enforce_https else "http"
    connect = partial(_client, api, f"{scheme}://127.0.0.1")
    server = PushServer(connect, signer)
    return Demo(server, renderer, cookie_secret, settings.heartbeat_interval_s).routes()


def _client(api: ASGIApp, url: str) -> "httpx.AsyncClient":
    import httpx  # Takes a quarter of a server's start time, so it is imported when the demo is first used.

    transport = httpx.ASGITransport(app=api, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url=url, trust_env=False)


def _landing(renderer: Renderer) -> Callable[[Request], Awaitable[Response]]:
    async def landing(request: Request) -> Response:
        return await renderer.page(request, "landing.html")

    return landing
