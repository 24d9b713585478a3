"""The metrics on the main port: for admins, and for the addresses of the option `metrics_allow`."""

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response

from channelstream.core.addresses import Networks
from channelstream.integrations.metrics.scraper import PATH, Scraper
from channelstream.pages.row import PageRight, Row, to_sign_in_or_401


class MetricsPage:
    """The endpoint of scrapers."""

    def __init__(self, scraper: Scraper, allowed: Sequence[str], app_id: str) -> None:
        """Create the endpoint.

        Args:
            allowed: addresses and networks that need no credentials.
            app_id: the further application of which the metrics are; empty: of the whole server.
        """
        self._app_id = app_id
        self._scraper = scraper
        self._allowed = Networks(allowed)

    def rows(self) -> list[Row]:
        return [Row(PATH, self._scrape, PageRight.LOOK, refuse=to_sign_in_or_401, is_open=self._is_allowed)]

    def _is_allowed(self, request: Request) -> bool:
        return request.client is not None and self._allowed.has(request.client.host)

    async def _scrape(self, request: Request) -> Response:
        scrape = await self._scraper.scrape(request.headers.get("accept", ""), self._app_id)
        headers = {
            "cache-control": "no-store",
            "content-type": scrape.content_type,
            "x-content-type-options": "nosniff",
        }
        return Response(scrape.body, headers=headers)
