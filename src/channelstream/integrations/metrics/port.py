"""A port of its own for scrapers and probes, beside the port of the server.

It has sockets of its own: it answers when the server has as many connections as it may, and during the drain. It speaks
plain HTTP and believes no header of a proxy.
"""

from collections.abc import Iterable, Sequence
from socket import socket

from channelstream.core.policy import Policy
from channelstream.http.listener import Listener
from channelstream.http.router import Route, Router
from channelstream.http.shared import HttpServer, HttpSettings
from channelstream.integrations.metrics.scraper import Scraper, metrics_routes

MAX_SOCKETS = 32
"""Open sockets; beyond, new ones are answered with 503."""


class MetricsPort:
    """Answers on a port of its own."""

    def __init__(self, scraper: Scraper, allowed: Sequence[str], probes: Iterable[Route]) -> None:
        """Create it; nothing listens yet.

        Args:
            allowed: addresses and networks that may scrape; empty: all that reach the port.
            probes: the routes besides that of scrapes.
        """
        router = Router(Policy(), [*metrics_routes(scraper, allowed), *probes])
        self._http_server = HttpServer(HttpSettings(max_sockets=MAX_SOCKETS), router)
        self.listener = Listener(self._http_server)

    async def listen(self, host: str, port: int, sockets: Sequence[socket] | None) -> None:
        """Listen on bound sockets, or if there are none at all addresses of a host.

        Raises:
            OSError: the address cannot be used.
        """
        if sockets is None:
            await self.listener.listen_at(host, port)
        else:
            await self.listener.listen_on(sockets)

    async def close(self) -> None:
        """Stop accepting, and drop the sockets."""
        self.listener.close()
        await self._http_server.abort()
