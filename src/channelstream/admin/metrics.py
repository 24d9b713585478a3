"""The metrics on the main port: for admins, and for the addresses of the option `metrics_allow`."""

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from channelstream.core.addresses import Networks
from channelstream.integrations.metrics.scraper import PATH, Scraper
from channelstream.pages.access import Gate, to_sign_in


class MetricsPage:
    """The endpoint of scrapers."""

    def __init__(self, gate: Gate, scraper: Scraper, allowed: Sequence[str]) -> None:
        """Create the endpoint.

        Args:
            allowed: addresses and networks that need no credentials.
        """
        self._scraper = scraper
        self._allowed = Networks(allowed)
        self._guarded = gate.guarded_data(self._scrape, to_sign_in)

    def routes(self) -> list[BaseRoute]:
        return [Route(PATH, self._answer, methods=["GET"])]

    async def _answer(self, request: Request) -> Response:
        if request.client is not None and self._allowed.has(request.client.host):
            return await self._scrape(request)
        return await self._guarded(request)

    async def _scrape(self, request: Request) -> Response:
        scrape = await self._scraper.scrape(request.headers.get("accept", ""))
        headers = {
            "cache-control": "no-store",
            "content-type": scrape.content_type,
            "x-content-type-options": "nosniff",
        }
        return Response(scrape.body, headers=headers)
