"""The routes of each application: its API, its streams and its pages; and the routers that find them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from types import MappingProxyType
from typing import Any

from starlette.requests import Request

from channelstream import __version__
from channelstream.admin.acts import Acts
from channelstream.admin.key_uses import KeyTable, KeyUses
from channelstream.admin.panel import Panel
from channelstream.admin.receivers import Receivers
from channelstream.admin.sampler import Sampler
from channelstream.admin.traces import Traces
from channelstream.api import openapi
from channelstream.api.app import Api
from channelstream.api.endpoints import ENDPOINTS
from channelstream.api.table import Auth, Endpoint
from channelstream.api.unproven import UnprovenBodies
from channelstream.apps.app import App
from channelstream.apps.keys import DEFAULT
from channelstream.apps.principal import Principal, Right
from channelstream.auth.base import AuthRequest, RequestAuth
from channelstream.auth.open import OpenAuth
from channelstream.auth.pusher import PusherAuth
from channelstream.auth.reporting import ReportingAuth
from channelstream.auth.scheme import repeated
from channelstream.config import Settings
from channelstream.config.applications import Credentials, make_auth
from channelstream.core.policy import Policy
from channelstream.errors import BadSignature, Forbidden
from channelstream.http.address_rates import AddressRates
from channelstream.http.asgi import RouterApp, ScopeRequest
from channelstream.http.refusals import RefusalTable
from channelstream.http.router import APP_PREFIX, Route, Router
from channelstream.integrations.metrics.scraper import Scraper
from channelstream.integrations.webhooks.webhooks import Webhooks
from channelstream.older_secrets import OlderSecrets
from channelstream.pages.access import ReadBody
from channelstream.pages.app import page_route
from channelstream.service import Service
from channelstream.site import PageNeeds, routes
from channelstream.transports.entrances import MakeEntrance
from channelstream.transports.routes import stream_routes
from channelstream.transports.streams import Streams
from channelstream.untrusted_proxy import UntrustedProxy


def make_policy(settings: Settings, app_id: str, untrusted_proxy: UntrustedProxy) -> Policy:
    """Return who may call an application, from where.

    Args:
        settings: those of the application.
        untrusted_proxy: that of the process.
    """
    prefix = "" if app_id == DEFAULT else APP_PREFIX + app_id
    return Policy(
        settings.trusted_proxies, settings.enforce_https, settings.allow_cors, prefix, untrusted_proxy.seen
    )


@dataclass(frozen=True)
class AppTables:
    """Makes the routes of applications.

    The paths without a prefix belong to the default application, and to every other one whose key or connection id a
    request shows.

    Attributes:
        credentials: those of all applications.
        endpoints: the rows of the API.
        named: rows whose paths name the application: they are below no prefix of one.
        entrances: the paths that open a WebSocket.
        refused: counts the calls that are refused for their credentials.
        unproven: reads the bodies of all applications that have to prove their requests.
        uses: when each key was used last.
        older: says who signs with older secrets.
        addresses: how often strangers may show wrong credentials, and fail to sign in.
        webhooks: those of all applications.
        untrusted_proxy: what is known about one on this machine, which the admin pages say.
        sampler, scraper: have the figures of the process, which only the default application's pages show.
    """

    state: Streams
    credentials: Credentials
    endpoints: Sequence[Endpoint]
    named: Sequence[Endpoint]
    entrances: Sequence[MakeEntrance]
    refused: Counter[str]
    sampler: Sampler
    scraper: Scraper
    uses: KeyUses
    older: OlderSecrets
    addresses: AddressRates
    webhooks: Webhooks
    untrusted_proxy: UntrustedProxy
    unproven: UnprovenBodies = field(default_factory=UnprovenBodies)

    def router(
        self,
        app: App,
        settings: Settings,
        probes: Iterable[Route] = (),
        further: Mapping[str, Router] = MappingProxyType({}),
    ) -> Router:
        """Return the router of an application.

        Args:
            settings: those of the application.
            probes: the routes that belong to no application; for the default one only, as is `further`.
            further: the routers of further applications, by id.
        """
        wall, serves_any = self.state.node.clock.wall, self._serves_any(app)
        auth = make_auth(settings, app, self.credentials, wall, self.older.used, serves_any=serves_any)
        api = self.calls(app, auth, settings)
        refusals = RefusalTable(
            app_id=self._id_in_path(app), on_refusal=partial(self.sampler.callers.was_refused, app.id)
        )
        pages = self._pages(app, settings, api, auth, refusals)
        rows = [*probes, *api, *self.streams(app, refusals)]
        return Router(self.state.policy_of(app), rows, pages, refusals.add, further)

    def _pages(
        self, app: App, settings: Settings, api: list[Route], auth: RequestAuth, refusals: RefusalTable
    ) -> Route:
        """Return the route of all its pages; the demo among them calls the API as any application does."""
        service, policy = self.state.services.of(app), self.state.policy_of(app)
        app_id = self._id_in_path(app)
        keys = KeyTable(service, self.credentials.keys, self.uses)
        panel = Panel(service, self.state, self.sampler, refusals, keys, shows_server=not app_id)
        # Not `_call_refused`: its metric is about calls of the API only.
        signed = ReportingAuth(auth, self._credentials_refused)
        needs = PageNeeds(
            api=RouterApp(Router(policy, api)),
            panel=panel,
            openapi=_openapi_document,
            signed_by=partial(_signed_by, service, signed),
            traces=Traces(service, panel.watching),
            receivers=Receivers(service, self.webhooks),
            acts=Acts(service, self.sampler.history, app_id),
            scraper=self.scraper,
            failures=self.addresses.failed_sign_ins(),
            secret=lambda: self.credentials.keys.own_secrets(app.id)[0],
            has_untrusted_proxy=lambda: self.untrusted_proxy.was_seen,
        )
        pages = routes(settings, needs, app_id)
        return page_route(pages, policy, settings.http_scheme, refusals.add)

    def calls(self, app: App, signed: RequestAuth, settings: Settings) -> list[Route]:
        """Return the routes of its API."""
        auths: dict[Auth, RequestAuth] = {
            Auth.SIGNED: ReportingAuth(self.untrusted_proxy.watched(signed), self._call_refused),
            Auth.PUSHER: ReportingAuth(self.untrusted_proxy.watched(self._pusher_auth()), self._call_refused),
            Auth.NONE: OpenAuth(app),
        }
        api = Api(
            self.state.services,
            auths,
            settings.max_body_bytes,
            serves_any=self._serves_any(app),
            on_call=self._called,
            unproven=self.unproven,
            repeated=self._repeated,
        )
        named = self._named() if app is self.state.services.default.app else ()
        return api.routes([*self.endpoints, *named])

    def _named(self) -> list[Endpoint]:
        """Return the rows whose paths name the application, below each prefix that one has for them."""
        prefixes = {"": None} | {app.pusher.path_prefix: None for app in self._apps() if app.pusher}
        return [replace(row, path=prefix + row.path) for prefix in prefixes for row in self.named]

    def _apps(self) -> Iterable[App]:
        return (service.app for service in self.state.services.all())

    def _pusher_auth(self) -> PusherAuth:
        apps = self._apps()
        return PusherAuth(
            apps, self.credentials.access, self.state.node.clock.wall, self.older.used_of_pusher
        )

    def _call_refused(self, request: AuthRequest, error: Forbidden | BadSignature) -> None:
        self.refused[error.code] += 1
        self._credentials_refused(request, error)

    def _credentials_refused(self, request: AuthRequest, error: Forbidden | BadSignature) -> None:
        """Count wrong credentials for the address that shows them.

        Right ones are never refused for that: others may share the address.

        Raises:
            TooManyRequests: it has shown too many, which is its answer in place of the refusal.
        """
        if self.addresses.credentials is not None and isinstance(error, BadSignature):
            self.addresses.credentials.take(request.address)

    def _repeated(self) -> BadSignature:
        self.refused[BadSignature.code] += 1
        return repeated()

    def _called(self, principal: Principal, address: str) -> None:
        app_id, key_id = principal.app.id, principal.key_id
        self.sampler.callers.called(app_id, address, key_id)
        if principal.rights:  # A stranger has shown no key.
            self.uses.used(app_id, key_id)

    def streams(self, app: App, refusals: RefusalTable) -> Iterable[Route]:
        """Return the routes of its streams."""
        service, opens_any = self.state.services.of(app), self._serves_any(app)
        return stream_routes(self.state, service, self.entrances, opens_any, refusals.add)

    def _id_in_path(self, app: App) -> str:
        return "" if app is self.state.services.default.app else app.id

    def _serves_any(self, app: App) -> bool:
        services = self.state.services
        return services.has_further and app is services.default.app


async def _signed_by(
    service: Service, auth: RequestAuth, request: Request, read_body: ReadBody
) -> str | None:
    """Return what signed a request for a page, if that may see the admin pages of this application; else None."""
    head = ScopeRequest(request.scope)
    try:
        principal = auth.principal(head)
        once = auth.verify_body(head, await read_body())
    except (Forbidden, BadSignature):
        return None
    if principal.app is not service.app or (once and not await service.use_once(once.text, once.keep_s)):
        return None
    if Right.ADMIN not in principal.rights:
        return None
    return f"key {principal.key_id}" if principal.key_id else "the option secret"


@cache
def _openapi_document() -> dict[str, Any]:
    """Return the OpenAPI document, which never changes; it is built when it is first asked for."""
    return openapi.document(ENDPOINTS, __version__)
