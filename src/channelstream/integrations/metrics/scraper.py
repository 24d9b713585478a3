"""Answers scrapes: the worker that is asked asks the others. Scrapes that it gets while it collects share the result."""

import asyncio
from collections.abc import Iterable, Sequence

from channelstream.core.addresses import Networks
from channelstream.errors import Forbidden
from channelstream.http.request import Request
from channelstream.http.response import Response
from channelstream.http.router import Route
from channelstream.integrations.metrics.collect import Collector, up_family
from channelstream.integrations.metrics.exposition import Scrape, merged, write
from channelstream.integrations.metrics.samples import Family, of_application
from channelstream.integrations.metrics.siblings import Siblings, Worker
from channelstream.shielded import result_of

PATH = "/metrics"
HEADERS = ((b"cache-control", b"no-store"),)


class Scraper:
    """Collects and writes the metrics of all workers.

    Attributes:
        siblings: the other workers.
    """

    def __init__(self, collector: Collector, worker: Worker) -> None:
        self.siblings = Siblings(worker, collector.collect)
        self._collector = collector
        self._collecting: asyncio.Task[list[Family]] | None = None

    async def scrape(self, accept: str, app_id: str = "") -> Scrape:
        """Return the metrics of now, in the form that the header Accept prefers.

        Args:
            app_id: leave out what is not counted for this application alone; empty: leave out nothing.
        """
        if self._collecting is None:
            self._collecting = asyncio.get_running_loop().create_task(self._collect())
            self._collecting.add_done_callback(self._done)
        # Another scraper may wait for it when this one is cancelled.
        families = await result_of(self._collecting)
        return await asyncio.to_thread(
            write, of_application(families, app_id) if app_id else families, accept
        )

    def _done(self, _collected: "asyncio.Task[list[Family]]") -> None:
        self._collecting = None

    async def _collect(self) -> list[Family]:
        own, others = await asyncio.gather(self._collector.collect(), self.siblings.ask_all())
        found = {**others, self.siblings.worker.number: own}
        return merged([(str(number), _with_state(found[number])) for number in sorted(found)])


def _with_state(families: list[Family] | None) -> list[Family]:
    """Return the metrics of a worker, and whether it has answered."""
    return [*(families or ()), up_family(families is not None)]


def metrics_routes(scraper: Scraper, allowed: Sequence[str]) -> Iterable[Route]:
    """Return the route of a port of its own, without credentials.

    Args:
        allowed: addresses and networks that may read; empty: all that reach the port.
    """
    networks = Networks(allowed)

    async def answer(request: Request) -> Response:
        if allowed and not networks.has(request.address):
            raise Forbidden("This address may not read the metrics; see the option metrics_allow.")
        accept = next((value for name, value in request.headers if name == b"accept"), b"")
        scrape = await scraper.scrape(accept.decode("latin-1"))
        return Response(scrape.body, headers=HEADERS, content_type=scrape.content_type.encode())

    return (Route(PATH, {"GET": answer, "HEAD": answer}, cors=lambda _: (), serves_plain_http=True),)
