"""All pages as one route of the server: an ASGI application behind the bridge."""

import logging
from collections.abc import Iterable, Sequence

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute

from channelstream.core.headers import Header
from channelstream.core.http_head import RequestHead
from channelstream.core.policy import Policy
from channelstream.http.asgi import App, AsgiHandler, Receive, Scope, Send
from channelstream.http.router import ANY_METHOD, OnRefusal, Route
from channelstream.pages.refusals import json_errors

ADMIN_PREFIXES = ("/admin", "/metrics")
"""Pages of other origins can never read what is below them."""

logger = logging.getLogger(__name__)


def page_route(pages: Iterable[BaseRoute], policy: Policy, scheme: str, on_refusal: OnRefusal) -> Route:
    """Return the route of all paths that belong to nothing else.

    Args:
        pages: the routes of the pages.
        policy: who is calling, from where.
        scheme: the scheme of all links, whatever the sockets say; empty: that of the browser.
        on_refusal: called for each request that no page answers.
    """

    def cors(path: str, headers: Sequence[Header]) -> tuple[Header, ...]:
        return () if path.startswith(ADMIN_PREFIXES) else policy.cors(headers)

    def cors_of_error(scope: Scope) -> tuple[Header, ...]:
        return cors(scope["path"].removeprefix(scope["root_path"]), scope["headers"])

    def cors_of_preflight(head: RequestHead) -> tuple[Header, ...]:
        return cors(head.path, head.headers)

    application = Starlette(routes=list(pages), middleware=[Middleware(_without_disconnects)])
    # A path with a slash at its end is none here. Starlette would redirect it, to the host that the request names.
    application.router.redirect_slashes = False
    app = json_errors(application, cors_of_error, on_refusal)
    return Route("", {ANY_METHOD: AsgiHandler(app, policy, scheme)}, cors=cors_of_preflight)


def _without_disconnects(app: App) -> App:
    """Return the application, for which a client that disconnects is no error, and so none that Starlette answers."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except ClientDisconnect:
            logger.debug("a client disconnected before its request was complete")

    return serve
