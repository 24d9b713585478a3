"""Where spans of OpenTelemetry go, and what the log says about it."""

import asyncio
import logging
import sys
from collections.abc import Callable
from typing import Any

import pytest

from channelstream.errors import ConfigError

pytest.importorskip("opentelemetry.sdk.trace", reason="channelstream[otel] is not installed")
pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="channelstream[otel] is not installed")

from opentelemetry.sdk.trace.export import SpanExportResult

from channelstream.integrations.spans import exporting
from channelstream.integrations.spans.exporting import (
    DEFAULT_ENDPOINT,
    ENDPOINTS,
    RECOVERED_S,
    SWITCH_S,
    Drops,
    Exporting,
    ReportingExporter,
)


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        ({"OTEL_TRACES_EXPORTER": "jaeger"}, "OTEL_TRACES_EXPORTER: 'jaeger' is not otlp or none"),
        (
            {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc' is not http/protobuf, the protocol that spans are exported with",
        ),
    ],
)
def test_another_exporter_or_protocol_is_refused(environ: dict[str, str], sentence: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Exporting(environ)
    assert str(refused.value) == sentence


@pytest.mark.parametrize(
    "address",
    [
        "http://[::1",
        "collector:4318",
        "//collector:4318",
        "grpc://collector:4317",
        "http://",
        "http://key@:4318",
        "http://collector:port",
        "http://collector:65536",
        "http://collector:0",
    ],
)
@pytest.mark.parametrize("name", ENDPOINTS)
def test_what_is_no_address_of_a_collector_is_refused(name: str, address: str) -> None:
    """The sentence does not repeat it: a login may be in it. Where nothing is exported it does not matter."""
    with pytest.raises(ConfigError) as refused:
        Exporting({name: address})
    assert (
        str(refused.value) == f"{name}: it must be an http:// or https:// address, such as {DEFAULT_ENDPOINT}"
    )
    Exporting({name: address, "OTEL_TRACES_EXPORTER": "none"})


@pytest.mark.parametrize(
    ("environ", "lines"),
    [
        ({}, ["spans of API calls are exported to http://localhost:4318"]),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://ann:login@collector:4318/key?token=key"},
            ["spans of API calls are exported to https://collector:4318"],
        ),
        (
            {"OTEL_TRACES_EXPORTER": "none"},
            ["spans of API calls are not exported: OTEL_TRACES_EXPORTER is none"],
        ),
        ({"OTEL_SDK_DISABLED": "true"}, ["spans of API calls are not recorded: OTEL_SDK_DISABLED is true"]),
    ],
)
def test_the_start_says_where_spans_go(
    environ: dict[str, str], lines: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Without the parts of the address that may be secrets."""
    usual = sys.getswitchinterval()
    caplog.set_level(logging.INFO, exporting.__name__)
    try:
        asyncio.run(Exporting(environ).close())
    finally:
        sys.setswitchinterval(usual)
    assert [row.getMessage() for row in caplog.records if row.name == exporting.__name__] == lines


def test_spans_may_be_made_without_an_exporter(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the process is described by the environment, or else by our name."""
    exporting = Exporting({"OTEL_TRACES_EXPORTER": "none"})
    assert exporting.provider.resource.attributes["service.name"] == "channelstream"
    monkeypatch.setenv("OTEL_SERVICE_NAME", "push")
    assert Exporting({"OTEL_TRACES_EXPORTER": "none"}).provider.resource.attributes["service.name"] == "push"
    asyncio.run(exporting.close())


def test_the_exporting_thread_gives_way_to_the_loop_soon() -> None:
    """Only where there is one."""
    usual = sys.getswitchinterval()
    try:
        asyncio.run(Exporting({"OTEL_TRACES_EXPORTER": "none"}).close())
        assert sys.getswitchinterval() == usual
        asyncio.run(Exporting({}).close())
        assert sys.getswitchinterval() == pytest.approx(SWITCH_S)
    finally:
        sys.setswitchinterval(usual)


class Collector:
    """An exporter whose collector answers as a test says."""

    def __init__(self) -> None:
        self.answer: Callable[[], Any] = lambda: SpanExportResult.SUCCESS

    def export(self, _spans: object) -> Any:
        return self.answer()


def fail() -> Any:
    raise OSError("sec-ret")


def test_an_outage_is_one_line_and_its_end_another(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever the SDK reports meanwhile; and the end only after a minute without a drop."""
    caplog.set_level(logging.INFO)
    now_s, collector = 0.0, Collector()
    drops = Drops("http://c:4318", lambda: now_s)
    exporter = ReportingExporter(collector, drops)
    full = logging.makeLogRecord({"name": "opentelemetry.sdk._shared_internal", "msg": "Queue full"})
    retry = logging.makeLogRecord({"name": "opentelemetry.exporter.otlp", "msg": "Transient error"})

    def messages() -> list[str]:
        return [record.getMessage() for record in caplog.records if record.name == exporting.__name__]

    exporter.export([])
    drops.emit(retry)
    assert messages() == []
    for answer in (lambda: SpanExportResult.FAILURE, fail, lambda: SpanExportResult.SUCCESS):
        collector.answer = answer
        for _ in range(3):
            try:
                exporter.export([])
            except OSError:
                assert answer is fail
            drops.emit(full)
            assert drops.are_exported == (answer is not fail and answer() is SpanExportResult.SUCCESS)
            now_s += RECOVERED_S / 10
    assert messages() == ["spans are dropped: the collector is http://c:4318, and it takes no spans"]
    now_s += RECOVERED_S
    for _ in range(3):
        exporter.export([])
    assert messages()[1:] == ["spans are exported again to http://c:4318"]
    drops.emit(full)
    assert messages()[2:] == ["spans are dropped: the collector is http://c:4318, and it takes too few spans"]
