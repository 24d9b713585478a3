"""Probes for load balancers and process managers: whether this process serves, and whether it should get new clients.

They need no signature and reveal a word. They cost no call of the engine, so that no one can load it with them. Probes come
from inside, past the proxy that speaks TLS: plain HTTP is answered where `enforce_https` is on, too.
"""

from collections.abc import Iterable

from channelstream.http.response import TEXT, Response
from channelstream.http.router import Handler, Route
from channelstream.service import Node

HEADERS = ((b"cache-control", b"no-store"),)
OK = Response(b"ok", content_type=TEXT)


def health_routes(node: Node) -> Iterable[Route]:
    """Return the routes of the probes. No page of another origin has to read one."""
    probes: dict[str, Handler] = {"/healthz": lambda _: OK, "/readyz": lambda _: _readiness(node)}
    for path, probe in probes.items():
        yield Route(path, {"GET": probe, "HEAD": probe}, HEADERS, cors=lambda _: (), serves_plain_http=True)


def _readiness(node: Node) -> Response:
    reason = node.unready_reason
    return Response(reason.encode(), 503, content_type=TEXT) if reason else OK
