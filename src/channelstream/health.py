"""Probes for load balancers and process managers: whether this process serves, and whether it should get new clients.

They need no signature and reveal a word. They cost no call of the engine, so that no one can load it with them. Probes come
from inside, past the proxy that speaks TLS: plain HTTP is answered where `enforce_https` is on, too.
"""

from collections.abc import Iterable
from functools import partial

from channelstream.core.headers import Header
from channelstream.core.http_head import RequestHead
from channelstream.http.request import Request
from channelstream.http.response import TEXT, Response
from channelstream.http.router import Handler, Route
from channelstream.service import Node

HEADERS = ((b"cache-control", b"no-store"),)
OK = Response(b"ok", content_type=TEXT)


def health_routes(node: Node) -> Iterable[Route]:
    """Return the routes of the probes."""
    return (_route("/healthz", _alive), _route("/readyz", partial(_ready, node)))


def _route(path: str, probe: Handler) -> Route:
    handlers = {"GET": probe, "HEAD": probe}
    return Route(path, handlers, HEADERS, cors=_no_cors, serves_plain_http=True)


def _no_cors(_head: RequestHead) -> tuple[Header, ...]:
    """Return nothing: no page has to read a probe."""
    return ()


async def _alive(_request: Request) -> Response:
    return OK


async def _ready(node: Node, _request: Request) -> Response:
    reason = node.unready_reason
    return Response(reason.encode(), 503, content_type=TEXT) if reason else OK
