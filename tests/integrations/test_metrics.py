"""Metrics: what a scrape has."""

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import ExitStack, closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text
from tests.conftest import ADMIN_SECRET, RunningServer, StartServer
from tests.fleet import Fleet
from tests.http_client import http
from tests.signing import signature
from tests.streams import next_items
from tests.waiting import PATIENCE_S, eventually
from tests.webhook_receiver import SECRET, webhook_receiver
from websockets.sync.client import connect

from channelstream.apps.app import App
from channelstream.config import Settings
from channelstream.core.request_signing import SCHEME
from channelstream.core.user import UserUpdate
from channelstream.integrations.metrics.catalog import Metrics
from channelstream.integrations.metrics.meter import (
    CODES,
    transport_label,
)
from channelstream.integrations.metrics.samples import Histogram
from channelstream.server import Server, build
from channelstream.wire.channelstream import V07
from channelstream.wire.protocols import PROTOCOLS

ROOT = Path(__file__).parents[2]
ADMIN = ("admin", ADMIN_SECRET)
PROCESS = {
    "process_virtual_memory_bytes",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_cpu_seconds",
    "process_open_fds",
    "process_max_fds",
}
Values = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def values(families: Iterable[Metric]) -> Values:
    """Return the value of each sample, by its name and its labels without that of the worker."""
    return {
        (
            sample.name,
            tuple(sorted(pair for pair in sample.labels.items() if pair[0] != "worker")),
        ): sample.value
        for family in families
        for sample in family.samples
    }


def scraped(server: RunningServer) -> Values:
    answer = http.get(f"{server.url}/metrics", auth=ADMIN)
    assert answer.status_code == 200, answer.text
    return values(read_text(answer.text))


def value(found: Values, metric: Metrics, **labels: str) -> float:
    """Return a sample; 0 where nothing was counted yet."""
    return found.get((metric.sample_name, tuple(sorted(labels.items()))), 0.0)


async def text_of(server: Server, accept: str = "") -> str:
    return (await server.monitoring.scraper.scrape(accept)).body.decode()


@contextlib.asynccontextmanager
async def running(**options: Any) -> AsyncIterator[Server]:
    server = build(Settings(secret="x", admin_secret="y", **options))
    await server.node.start()
    try:
        yield server
    finally:
        await server.node.close()


# -- the form


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/html, */*", "text/plain; version=0.0.4; charset=utf-8"),
        (
            "application/openmetrics-text; version=9.9.9; escaping=evil, text/plain",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        ),
    ],
)
def test_a_scraper_gets_the_form_that_it_names(accept: str, content_type: str) -> None:
    """Either form has every metric of the catalog, and those of the process; nothing of the request is in the header."""

    async def life() -> tuple[str, str]:
        async with running() as server:
            scrape = await server.monitoring.scraper.scrape(accept)
            return scrape.body.decode(), scrape.content_type

    text, sent = asyncio.run(life())
    assert sent == content_type
    read = read_openmetrics if "openmetrics" in sent else read_text
    assert {family.name for family in read(text)} == {metric.full_name for metric in Metrics} | PROCESS


def test_each_metric_has_the_labels_of_the_catalog() -> None:
    async def life() -> str:
        async with running() as server:
            return await text_of(server)

    declared = {name: {*metric.value.labels, "worker"} for metric in Metrics for name in metric.names()}
    for family in read_text(asyncio.run(life())):
        for sample in family.samples:
            if not sample.name.startswith("process_"):
                assert set(sample.labels) - {"le"} == declared[sample.name]


def test_the_documentation_lists_every_metric() -> None:
    """With its type, its labels and its meaning, in the words of the catalog."""
    rows = re.findall(r"^\| `(channelstream_\w+)` \| (\w+) \| (.*?) \| (.*) \|$", page(), re.MULTILINE)
    assert rows == [
        (
            metric.sample_name,
            metric.value.kind,
            ", ".join(f"`{label}`" for label in metric.value.labels),
            metric.value.text,
        )
        for metric in Metrics
    ]


def page() -> str:
    return (ROOT / "docs/metrics.md").read_text(encoding="utf-8")


def test_a_histogram_has_its_observations_below_each_bound() -> None:
    histogram = Histogram((0.1, 1.0))
    histogram.observe(0.1)
    histogram.observe(0.5, count=3)
    histogram.observe(9.0)
    found = {(sample.name, *sample.labels.values()): sample.value for sample in histogram.samples("h")}
    assert found == {
        ("h_bucket", "0.1"): 1,
        ("h_bucket", "1.0"): 4,
        ("h_bucket", "+Inf"): 5,
        ("h_count",): 5,
        ("h_sum",): pytest.approx(10.6),
    }


def test_restored_connections_of_a_removed_application_are_counted(tmp_path: Path) -> None:
    """As those of `other`: a scrape does not fail after an application was taken out of the configuration."""
    engine, gone = f"sqlite:///{tmp_path / 'log.db'}", App("gone")

    async def life() -> Values:
        async with running(engine=engine) as server:
            await server.node.connect(gone.key("c1"), gone.key("ann"), V07, {}, UserUpdate({}, {}))
            await server.node.connect("c2", "bob", V07, {}, UserUpdate({}, {}))
        async with running(engine=engine) as server:
            return values(read_text(await text_of(server)))

    found = asyncio.run(life())
    for application in ("other", "default"):
        assert value(found, Metrics.connections, application=application, transport="none") == 1


# -- what is counted


def test_webhooks_are_counted(start_server: StartServer) -> None:
    """By application: what was sent, what waits, and calls that failed."""
    with webhook_receiver() as receiver:
        own = {"WEBHOOK_SECRET": SECRET, "WEBHOOK_NETWORKS": "127.0.0.1"}
        of_shop = {f"CHANNELSTREAM_APP_SHOP_{name}": text for name, text in own.items()}
        server = start_server(
            *("--webhook-urls", f"{receiver.url} http://127.0.0.1:9/"),
            CHANNELSTREAM_APP_SHOP_SECRET="of the shop, long enough",
            CHANNELSTREAM_APP_SHOP_WEBHOOK_URLS=receiver.url,
            **{f"CHANNELSTREAM_{name}": text for name, text in own.items()},
            **of_shop,
        )
        server.connect("ann", "a")

        def counted(metric: Metrics, application: str = "default", **more: str) -> float:
            return value(scraped(server), metric, application=application, **more)

        eventually(lambda: counted(Metrics.webhook_events, result="sent") == 2, "it is not sent")
        eventually(lambda: counted(Metrics.webhook_calls_failed) >= 1, "no call fails")
        eventually(lambda: counted(Metrics.webhook_events_pending) == 2, "nothing waits")
        receiver.refuses = frozenset((b'"channel.occupied"',))
        server.connect("ann", "other")
        eventually(lambda: counted(Metrics.webhook_events_refused) == 1, "nothing is refused")
        found = scraped(server)
        names = (
            Metrics.webhook_events,
            Metrics.webhook_calls_failed,
            Metrics.webhook_events_pending,
            Metrics.webhook_events_refused,
        )
        of_other = [(key, count) for key, count in found.items() if ("application", "shop") in key[1]]
        of_webhooks = [count for (name, _), count in of_other if name in {each.sample_name for each in names}]
        assert of_webhooks == [0] * 5
        assert [value(found, Metrics.webhook_events_dropped, where=each) for each in ("outbox", "node")] == [
            0,
            0,
        ]


def test_a_known_load_is_counted(start_server: StartServer) -> None:
    """Connections, streams and their ends, messages, deliveries, requests and refusals."""
    server = start_server()
    with ExitStack() as stack:
        urls = [f"{server.ws_url}/ws?conn_id={server.connect(f'u{n}', 'a')}" for n in range(6)]
        streams = [stack.enter_context(connect(url)) for url in urls]
        polled = server.connect("polling", "a")
        assert http.get(f"{server.url}/listen?conn_id={polled}&since=").status_code == 200
        events = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S)
        stack.enter_context(closing(events))
        events.sendall(f"GET /sse?conn_id={server.connect('sse', 'a')} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert events.recv(100).startswith(b"HTTP/1.1 200")
        for n in range(5):
            body = {"user": "app", "channel": "a", "message": n, "uuid": f"00000000-0000-4000-8000-{n:012}"}
            server.post("/message", [body])
        server.post("/message", [body])
        for stream in streams:
            received: list[Any] = []
            while len([item for item in received if item["type"] == "message"]) < 5:
                received += next_items(stream)
        eventually(lambda: latency_count(scraped(server)) >= 6, "the writes are not counted")
        found = scraped(server)
        by_transport = {
            name: value(found, Metrics.connections, application="default", transport=name)
            for name in ("websocket", "sse", "long_poll", "none")
        }
        assert by_transport == {"websocket": 6, "sse": 1, "long_poll": 0, "none": 1}
        opened = {
            name: value(found, Metrics.streams_opened, transport=name)
            for name in ("websocket", "sse", "long_poll")
        }
        assert opened == {"websocket": 6, "sse": 1, "long_poll": 1}
        assert value(found, Metrics.messages_published, application="default") == 5
        assert value(found, Metrics.deliveries) >= 5 * 8
        assert value(found, Metrics.log_bytes) > 0
        assert value(found, Metrics.http_requests, route="/message", status="2xx") == 6
        assert value(found, Metrics.http_requests, route="/connect", status="2xx") == 8

        # One end of each kind.
        stack.enter_context(connect(urls[0]))
        streams[1].close(1000)
        streams[2].close(1001)
        streams[3].close(4999)
        streams[4].socket.shutdown(socket.SHUT_RDWR)
        server.post("/disconnect", {"conn_id": urls[5].rpartition("=")[2]})
        codes = ("4002", "1000", "1001", "other", "none")

        def ends() -> dict[str, float]:
            after = scraped(server)
            return {
                code: value(after, Metrics.streams_closed, transport="websocket", code=code) for code in codes
            }

        expected = {"4002": 1, "1000": 2, "1001": 1, "other": 1, "none": 1}
        eventually(lambda: ends() == expected, f"the ends are not {expected}")
        eventually(
            lambda: value(scraped(server), Metrics.connections_ended, code="1000") == 2,
            "no connection has ended",
        )


def test_counters_exist_before_they_count() -> None:
    """For every known value of their labels: Prometheus computes no rate of a first value, so a burst would be invisible."""

    async def life() -> str:
        async with running() as server:
            return await text_of(server)

    found = values(read_text(asyncio.run(life())))
    transports = {transport_label(SimpleNamespace(format=each)) for each in PROTOCOLS.formats}  # type: ignore[arg-type]
    codes = {*CODES.values(), "none", "other"}
    expected = {
        Metrics.streams_opened: {(("transport", name),) for name in transports},
        Metrics.streams_closed: {
            (("code", code), ("transport", name)) for name in transports - {"long_poll"} for code in codes
        },
        Metrics.connections_ended: {(("code", code),) for code in codes},
        Metrics.auth_refused: {(("reason", reason),) for reason in ("forbidden", "bad_signature")},
    }
    for metric, labels in expected.items():
        rows = {row: count for (name, row), count in found.items() if name == metric.sample_name}
        assert rows == dict.fromkeys(labels, 0.0), metric


def latency_count(found: Values) -> float:
    return found[f"{Metrics.delivery_latency_seconds.full_name}_count", ()]


def test_refused_calls_are_counted_by_reason(start_server: StartServer) -> None:
    server = start_server()
    http.post(f"{server.url}/message", json=[])
    for _ in range(2):
        http.post(f"{server.url}/message", json=[], headers={"x-channelstream-secret": "wrong"})
    found = scraped(server)
    assert value(found, Metrics.auth_refused, reason="forbidden") == 1
    assert value(found, Metrics.auth_refused, reason="bad_signature") == 2
    assert value(found, Metrics.http_requests, route="/message", status="4xx") == 3


@pytest.mark.nodes(3)
def test_a_repeat_that_another_node_finds_is_counted(server: Fleet) -> None:
    """As a refusal of that node, which answers it as any other one."""

    def refused() -> list[float]:
        return [value(scraped(node), Metrics.auth_refused, reason="bad_signature") for node in server.nodes]

    body, before = b"[]", refused()
    headers = signature(server.secret, "POST", "/message", body)
    answers = [http.post(f"{node.url}/message", content=body, headers=headers) for node in server.nodes]
    assert [answer.status_code for answer in answers] == [200, 401, 401]
    assert [answer.headers.get("www-authenticate") for answer in answers] == [None, SCHEME, SCHEME]
    assert [now - then for now, then in zip(refused(), before, strict=True)] == [0, 1, 1]


def test_calls_of_an_engine_are_counted(start_server: StartServer, tmp_path: Path) -> None:
    """Of one that can fail; their time is counted as well."""
    server = start_server(f"--engine=sqlite:///{tmp_path / 'log.db'}")
    for _ in range(3):
        server.post("/message", [{"user": "app", "channel": "a", "message": 1}])
    found = scraped(server)
    name = Metrics.engine_call_seconds.full_name
    assert found[f"{name}_count", (("operation", "publish"),)] == 3
    assert 0 < found[f"{name}_sum", (("operation", "publish"),)] < PATIENCE_S
    assert value(found, Metrics.engine_errors, operation="publish") == 0


def test_the_delay_of_the_loop_is_counted(server: RunningServer) -> None:
    """By the ticks of the watchdog, which come all the time."""
    name = f"{Metrics.loop_delay_seconds.full_name}_count"
    before = scraped(server)[name, ()]
    eventually(lambda: scraped(server)[name, ()] > before, "no tick is counted")
