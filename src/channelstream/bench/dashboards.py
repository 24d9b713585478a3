"""Measures what open dashboards cost a server that is at work: its CPU without them and with them, in turn.

`python -m channelstream.bench.dashboards --help` lists its options.
"""

import argparse
import asyncio
import statistics
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import msgspec

from channelstream.bench.application import Application
from channelstream.bench.departures import CHANNEL, PING_S, crowd
from channelstream.bench.load import BenchFailed
from channelstream.bench.measure import Stopwatch, Target
from channelstream.bench.question import answer, options_of, positive
from channelstream.bench.servers import product
from channelstream.bench.wire import Wire

ANSWER_TIMEOUT_S = 60
TABLES = ("busiest", "slow_clients", "endings", "refused", "slow_turns")
"""What the page fetches after each sample, besides the history."""


@dataclass
class Page:
    """A dashboard without a browser: it asks for what `/admin` asks for.

    Attributes:
        events: events of its stream.
        bytes: those of the answers to its requests, as they were decoded.
        reads: how often it has read the history.
    """

    wire: Wire
    http: httpx.AsyncClient
    events: int = 0
    bytes: int = 0
    reads: int = 0
    _latest: float = 0

    @asynccontextmanager
    async def stream(self) -> AsyncIterator[httpx.Response]:
        """Open the stream of figures.

        Raises:
            BenchFailed: the server refuses it.
        """
        async with self.http.stream("GET", "/admin/live", headers=self._signed("/admin/live")) as stream:
            if stream.status_code != httpx.codes.OK:
                raise BenchFailed(f"/admin/live answered {stream.status_code}")
            yield stream

    async def watch(self, stream: httpx.Response) -> None:
        """Read the stream of figures; after each event with a new sample fetch the tables, as the page does."""
        async for line in stream.aiter_lines():
            if line.startswith("data:"):
                await self._received(msgspec.json.decode(line[5:]))

    async def _received(self, event: dict[str, object]) -> None:
        self.events += 1
        if self.events > 1 and not event["new_samples"]:
            return
        rows = (await self._read("/admin/data/history", range="hour", since=str(int(self._latest))))["rows"]
        if rows and rows[0][0] <= self._latest:
            raise BenchFailed("/admin/data/history answered rows that the page has")
        if rows:
            self._latest = rows[-1][0]
        self.reads += 1
        for name in TABLES:
            await self._read(f"/admin/data/{name}")

    async def _read(self, path: str, **query: str) -> Any:
        answer = await self.http.get(path, params=query, headers=self._signed(path))
        if not answer.is_success:
            raise BenchFailed(f"{path} answered {answer.status_code}")
        self.bytes += len(answer.content)
        return msgspec.json.decode(answer.content)

    def _signed(self, path: str) -> dict[str, str]:
        name, _, value = self.wire.signature(path).decode().strip().partition(": ")
        return {name: value}


@asynccontextmanager
async def opened(wire: Wire, count: int) -> AsyncIterator[list[Page]]:
    """Open dashboards, each with connections of its own; all of them are open inside."""
    base = f"http://{wire.host}:{wire.port}"
    async with AsyncExitStack() as stack:
        pages, watching = [], []
        for _ in range(count):
            # The server speaks no TLS, and the authorities take longer to load than a page to open.
            http = httpx.AsyncClient(base_url=base, timeout=ANSWER_TIMEOUT_S, verify=False)  # noqa: S501
            page = Page(wire, await stack.enter_async_context(http))
            stream = await stack.enter_async_context(page.stream())
            pages.append(page)
            watching.append(asyncio.create_task(page.watch(stream)))
            stack.push_async_callback(_ended, watching[-1])
        yield pages
        for task in watching:
            if task.done():
                task.result()


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _publish(application: Application, per_s: int) -> None:
    body = {"channel": CHANNEL, "user": "bench", "message": {"text": "x" * 100}}
    loop = asyncio.get_running_loop()
    due_s = loop.time()
    while True:
        await application.call("/message", body)
        due_s = max(due_s + 1 / per_s, loop.time() - 1)
        await asyncio.sleep(due_s - loop.time())  # the pace of the load


async def cost(target: Target, dashboards: int, duration_s: float) -> dict[str, float]:
    """Return the server's CPU in milliseconds a second, and what the dashboards received, for one stretch of time."""
    async with opened(target.wire, dashboards) as pages:
        await asyncio.sleep(min(2, duration_s))  # what opening costs is not counted
        events, size, watch = sum(p.events for p in pages), sum(p.bytes for p in pages), Stopwatch(target)
        with watch:
            await asyncio.sleep(duration_s)  # the time over which is measured
        return {
            "cpu ms/s": round(1000 * (watch.cpu_s or 0.0) / duration_s, 1),
            "events/s": round((sum(p.events for p in pages) - events) / duration_s, 1),
            "KB/s": round((sum(p.bytes for p in pages) - size) / duration_s / 1000, 1),
        }


async def _run(options: argparse.Namespace) -> None:
    async with product("--ping-interval-s", str(PING_S), *options.flag) as target:
        application = Application(target.wire)
        await crowd(application, "reads", options.connections, None)
        publishing = asyncio.create_task(_publish(application, options.rate))
        try:
            await _compare(target, options)
            if publishing.done():
                publishing.result()
        finally:
            publishing.cancel()
            application.close()


async def _compare(target: Target, options: argparse.Namespace) -> None:
    figures: dict[int, list[float]] = {0: [], options.dashboards: []}
    for _ in range(options.rounds):
        for count, measured in figures.items():
            row = await cost(target, count, options.duration)
            measured.append(row["cpu ms/s"])
            print(f"dashboards: {count}  " + "  ".join(f"{k}: {v}" for k, v in row.items()), flush=True)
    for count, measured in figures.items():
        print(f"median with {count} dashboards: {statistics.median(measured)} ms of CPU a second")
    # Of neighbours: other work of the machine changes more slowly.
    more = statistics.median(
        after - before for before, after in zip(figures[0], figures[options.dashboards], strict=True)
    )
    print(f"median of the differences: {more:.1f} ms, {more / options.dashboards:.2f} for each dashboard")


def main() -> None:
    options = options_of("dashboards", __doc__)
    options.add_argument("--connections", type=positive, default=1_000, help="WebSockets, all in one channel")
    options.add_argument("--rate", type=int, default=50, help="messages a second to that channel")
    options.add_argument("--dashboards", type=positive, default=10, help="open overview pages")
    options.add_argument(
        "--rounds", type=positive, default=5, help="measurements without and with them, in turn"
    )
    options.add_argument("--duration", type=float, default=15, help="seconds of each measurement")
    answer(options, _run)


if __name__ == "__main__":
    main()
