"""The routes of each application: its API, its streams, and the router of one that is served below its own path."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from channelstream.api.app import Api
from channelstream.api.table import Auth, Endpoint
from channelstream.apps.app import App
from channelstream.auth.base import RequestAuth
from channelstream.auth.open import OpenAuth
from channelstream.config import Settings
from channelstream.config.applications import make_signature_auth
from channelstream.core.policy import Policy
from channelstream.http.refusals import Refusals
from channelstream.http.router import APP_PREFIX, Route, Router
from channelstream.integrations.metrics.meter import CountedAuth
from channelstream.transports.entrances import MakeEntrance
from channelstream.transports.routes import stream_routes
from channelstream.transports.streams import Streams


def make_policy(settings: Settings, app_id: str = "") -> Policy:
    """Return who may call an application, from where.

    Args:
        settings: those of the application.
        app_id: of a further one.
    """
    prefix = APP_PREFIX + app_id if app_id else ""
    return Policy(settings.trusted_proxies, settings.enforce_https, settings.allow_cors, prefix)


@dataclass(frozen=True)
class AppTables:
    """Makes the routes of applications.

    The paths without a prefix belong to the default application, and to every other one whose key or connection id a
    request shows.

    Attributes:
        endpoints: the rows of the API.
        entrances: the paths that open a WebSocket.
        refused: counts the calls that are refused for their credentials.
    """

    state: Streams
    endpoints: Sequence[Endpoint]
    entrances: Sequence[MakeEntrance]
    refused: Counter[str]

    def router(self, app: App, settings: Settings) -> Router:
        """Return the router of a further application.

        Args:
            settings: those of the application.
        """
        auth = make_signature_auth(settings, app, self.state.node.clock.wall)
        rows = [*self.calls(app, auth, settings), *self.streams(app)]
        return Router(self.state.policy_of(app), rows, on_refusal=Refusals(app_id=app.id).add)

    def calls(self, app: App, signed: RequestAuth, settings: Settings) -> list[Route]:
        """Return the routes of its API."""
        auths: dict[Auth, RequestAuth] = {
            Auth.SIGNED: CountedAuth(signed, self.refused),
            Auth.NONE: OpenAuth(app),
        }
        api = Api(self.state.services, auths, settings.max_body_bytes, serves_any=self._serves_any(app))
        return api.routes(self.endpoints)

    def streams(self, app: App) -> Iterable[Route]:
        """Return the routes of its streams."""
        service = self.state.services.of(app)
        return stream_routes(self.state, service, self.entrances, opens_any=self._serves_any(app))

    def _serves_any(self, app: App) -> bool:
        services = self.state.services
        return services.has_further and app is services.default.app
