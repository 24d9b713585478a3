"""Metrics: no stranger can add a series, or make the server collect them more often."""

import asyncio
import re
from types import SimpleNamespace
from typing import Any

import pytest
from tests.http.test_router import asked
from tests.integrations.test_metrics import running, text_of

from channelstream.close_codes import CloseCode
from channelstream.integrations.metrics.meter import (
    CODES,
)

MANY = 1_000


class AnyStream:
    """A stream of a transport."""

    format = SimpleNamespace(name="WebSocket")


def series(text: str) -> set[str]:
    return {line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")}


def test_strangers_add_no_series(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a thousand names, close codes, paths and methods; each label has few values."""

    async def life() -> tuple[set[str], set[str]]:
        async with running() as server:
            server_http, node = server._http_server, server.node
            before = series(await text_of(server))
            stream: Any = AnyStream()
            for n in range(MANY):
                for path in (f"/p{n}", f"/metrics/{n}", f"/admin/data/{n}"):
                    request = server_http.router.request(asked(path, f"M{n}"), None)  # type: ignore[arg-type]
                    server_http.router.handler(request)
                    server_http.answers[request.route, 200 + n % 400] = 1
                node.signals.closed.emit(stream, 1000 + 4 * n)
            return before, series(await text_of(server))

    before, after = asyncio.run(life())
    added = after - before
    routes = {line for line in added if "http_requests" in line}
    assert {re.sub(r'status="\dxx"', "", line) for line in routes} == {
        'channelstream_http_requests_total{route="other",,worker="0"}'
    }
    assert len(routes) <= 5
    assert len({line for line in added if "streams_closed" in line}) <= len(CODES) + 2
    assert added == routes | {line for line in added if "streams_closed" in line}


def test_each_close_code_of_the_server_is_counted_by_its_number() -> None:
    assert {int(code) for code in CloseCode} < set(CODES)


def test_scrapes_that_come_together_share_one_collection(monkeypatch: pytest.MonkeyPatch) -> None:
    """And one that is cancelled does not end it for the others."""

    async def life() -> int:
        async with running() as server:
            collector, collected = server.monitoring.scraper._collector, []
            collect = collector.collect

            async def counted() -> Any:
                collected.append(1)
                return await collect()

            monkeypatch.setattr(collector, "collect", counted)
            tasks = [asyncio.create_task(text_of(server)) for _ in range(5)]
            await asyncio.sleep(0)
            tasks[0].cancel()
            texts = await asyncio.gather(*tasks[1:])
            assert len(set(texts)) == 1
            return len(collected)

    assert asyncio.run(life()) == 1
