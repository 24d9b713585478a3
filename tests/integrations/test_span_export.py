"""Spans leave real servers by OTLP over HTTP, for a collector on a socket of the test."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from tests.conftest import SECRET, StartServer
from tests.local_server import LocalHandler, LocalServer, running
from tests.redis_server import RedisServer
from tests.waiting import eventually

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="channelstream[otel] is not installed")

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

pytestmark = pytest.mark.slow
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
KEY = "a-key-of-the-collector"


class Collector(LocalServer):
    """Takes spans.

    Attributes:
        status: of its answers.
        bodies: the requests.
    """

    def __init__(self) -> None:
        super().__init__(Receiver)
        self.status = 200
        self.bodies: list[bytes] = []
        self.heads: list[tuple[str, str | None]] = []

    @property
    def environ(self) -> dict[str, str]:
        """The variables of a server that exports to it, every 10 ms."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.url,
            "OTEL_EXPORTER_OTLP_HEADERS": f"x-key={KEY}",
            "OTEL_SERVICE_NAME": "push",
            "OTEL_BSP_SCHEDULE_DELAY": "10",
        }

    def spans(self) -> list[tuple[dict[str, Any], Any]]:
        """Return the spans, each with the attributes of its process."""
        found = []
        for body in list(self.bodies):
            for group in ExportTraceServiceRequest.FromString(body).resource_spans:
                process = {each.key: each.value.string_value for each in group.resource.attributes}
                found += [(process, span) for scope in group.scope_spans for span in scope.spans]
        return found


class Receiver(LocalHandler):
    """Answers with the status of the collector."""

    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.heads.append((self.path, self.headers["x-key"]))
        if self.server.status == 200:
            self.server.bodies.append(body)
        self.send_response(self.server.status)
        self.send_header("content-length", "0")
        self.end_headers()


@pytest.fixture
def collector() -> Iterator[Collector]:
    with running(Collector()) as collector:
        yield collector


def test_spans_of_each_worker_reach_the_collector(
    start_server: StartServer, redis: RedisServer, collector: Collector
) -> None:
    """Each worker has an exporter of its own, made after the fork, and each call is exported once."""
    server = start_server("--otel", "--workers=2", f"--engine={redis.address}", **collector.environ)
    sent = 0

    def all_workers_have_exported() -> bool:
        nonlocal sent
        body = {"user": "app", "channel": "a", "message": sent}
        server.post("/message", body, headers={"traceparent": f"00-{TRACE}-{SPAN}-01"})
        sent += 1
        return len({process["service.instance.id"] for process, _ in collector.spans()}) == 2

    eventually(all_workers_have_exported, "only one worker exports")
    eventually(lambda: len(collector.spans()) == sent, "a call has no span")
    server.stop()
    spans = collector.spans()
    assert len(spans) == sent
    for process, span in spans:
        assert (process["service.name"], process["telemetry.sdk.language"]) == ("push", "python")
        assert (span.name, span.trace_id.hex(), span.parent_span_id.hex()) == ("POST /message", TRACE, SPAN)
    assert set(collector.heads) == {("/v1/traces", KEY)}


def test_a_collector_that_refuses_costs_one_line_of_the_log(
    start_server: StartServer, collector: Collector
) -> None:
    """Calls are answered, a stop does not wait for it, and no secret is in the log."""
    collector.status = 401
    server = start_server("--otel", **collector.environ)
    for n in range(3):
        server.post("/message", {"user": "app", "channel": "a", "message": n})
        eventually(lambda n=n: len(collector.heads) > n, "nothing is exported")  # type: ignore[misc]
    code, log = server.stop()
    assert code == 0
    [line] = [line for line in log.splitlines() if "spans are " in line]
    where = f"http://127.0.0.1:{collector.server_port}"
    assert line.endswith(f"spans are dropped: the collector is {where}, and it takes no spans")
    assert re.findall(r"^\S+ \S+ [A-Z]+ +opentelemetry.*", log, re.MULTILINE) == []
    assert KEY not in log
    assert SECRET not in log
