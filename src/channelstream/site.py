"""The pages of a server: admin, demo and API explorer, with what they share."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

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
from channelstream.config.secret_values import public
from channelstream.demo.app import Demo
from channelstream.demo.push_server import PushServer
from channelstream.errors import Forbidden
from channelstream.explorer.page import Explorer
from channelstream.http.address_rates import AddressRate
from channelstream.http.asgi import IS_LOCAL
from channelstream.integrations.metrics.scraper import Scraper
from channelstream.pages.access import Account, Gate, SignedBy
from channelstream.pages.assets import Assets
from channelstream.pages.html import Renderer, redirect
from channelstream.pages.refusals import error_response
from channelstream.pages.row import PageRight, Row
from channelstream.pages.signin import SignIn
from channelstream.pages.throttle import Throttle

if TYPE_CHECKING:
    import httpx


PARTS = tuple(Path(__file__).parent / name for name in ("admin", "demo", "explorer"))
"""The folders with templates and assets of their own."""


NO_DEMO = "The demo is for callers on this machine; see the option demo."

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
        has_untrusted_proxy: whether a proxy on this machine that is not in `trusted_proxies` was seen.
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
    has_untrusted_proxy: Callable[[], bool] = lambda: False


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
        _account(settings, "admin", may_change=True),
        _account(settings, "admin_reader", may_change=False),
    ]
    record = needs.acts.record
    gate = Gate(accounts, cookie_secret, needs.signed_by, Throttle(needs.failures), record, app_id)
    guarded = [
        *Admin(renderer, needs.has_untrusted_proxy).rows(),
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


def _account(settings: Settings, kind: str, *, may_change: bool) -> Account:
    """Return the account of the options `KIND_user` and `KIND_secret`."""
    name = f"{kind}_secret"
    password = getattr(settings, name)
    return Account(getattr(settings, f"{kind}_user"), password, may_change, password in public(name))


def _demo(
    settings: Settings, api: ASGIApp, signer: CallSigner, renderer: Renderer, cookie_secret: str
) -> Sequence[BaseRoute]:
    scheme = "https" if settings.enforce_https else "http"
    connect = partial(_client, api, f"{scheme}://127.0.0.1")
    server = PushServer(connect, signer)
    routes = Demo(server, renderer, cookie_secret, settings.heartbeat_interval_s).routes()
    return routes if settings.demo else list(map(_on_this_machine, routes))


def _on_this_machine(route: Route) -> Route:
    """Let a route answer callers on this machine only."""
    app = route.app

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        answer = app if scope[IS_LOCAL] else error_response(Forbidden(NO_DEMO))
        await answer(scope, receive, send)

    route.app = serve
    return route


def _client(api: ASGIApp, url: str) -> "httpx.AsyncClient":
    import httpx  # Takes a quarter of a server's start time, so it is imported when the demo is first used.

    transport = httpx.ASGITransport(app=api, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url=url, trust_env=False)


def _landing(renderer: Renderer) -> Callable[[Request], Awaitable[Response]]:
    async def landing(request: Request) -> Response:
        return await renderer.page(request, "landing.html")

    return landing
