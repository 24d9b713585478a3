"""Which deliveries a span waits for, and when it ends."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from tests.waiting import soon

from channelstream.core.accepted import Accepted
from channelstream.core.entry import Entry
from channelstream.core.events import Message

pytest.importorskip("opentelemetry.sdk.trace", reason="channelstream[otel] is not installed")
pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="channelstream[otel] is not installed")

from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from channelstream.integrations.spans import deliveries
from channelstream.integrations.spans.deliveries import MAX_EVENTS, MAX_WAITING, CallSpan, Deliveries
from channelstream.integrations.spans.exporting import Exporting
from channelstream.integrations.spans.recorder import Recorder

UUID = "6f1b1d3e-0f5a-4c39-9a53-0a8b2f7d1c11"


class FakeSpan:
    """Notes what is done with a span."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.ends: list[int] = []

    def add_event(self, _name: str, attributes: dict[str, Any]) -> None:
        assert not self.ends
        self.events.append(attributes)

    def set_attribute(self, *_: object) -> None:
        assert not self.ends

    def end(self, end_time: int) -> None:
        self.ends.append(end_time)


def entry(uuid: str = UUID) -> Entry:
    return Entry(1, ("e",), 0.0, Message(uuid=uuid, channel="a", user="app", payload=b"1", timestamp="t"))


def test_a_span_waits_for_a_delivery_after_its_call_and_keeps_the_end_of_the_call() -> None:
    async def life() -> tuple[FakeSpan, int | None]:
        awaited, call = Deliveries(), CallSpan(FakeSpan())
        awaited.publishing(call, [entry().event])
        awaited.ended(call, has_failed=False)
        assert call.ended_ns is not None
        assert call.span.ends == []
        awaited.delivered(entry(), 7)
        awaited.delivered(entry(), 7)
        awaited._release(call)
        return call.span, call.ended_ns

    span, ended_ns = asyncio.run(life())
    assert len(span.events) == 1
    assert span.ends == [ended_ns]


def test_a_span_whose_message_has_no_recipient_at_this_node_ends_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing of it is kept."""
    monkeypatch.setattr(deliveries, "WAIT_S", 0.01)

    async def life() -> Deliveries:
        awaited, call = Deliveries(), CallSpan(FakeSpan())
        awaited.publishing(call, [entry().event])
        awaited.ended(call, has_failed=False)
        await soon(lambda: call.span.ends == [call.ended_ns], "the span does not end")
        return awaited

    awaited = asyncio.run(life())
    assert (awaited._awaited, awaited._held) == ({}, set())


def test_a_span_that_waits_is_exported_at_the_stop() -> None:
    async def life() -> Sequence[Any]:
        kept, exporting = InMemorySpanExporter(), Exporting({"OTEL_TRACES_EXPORTER": "none"})
        exporting.provider.add_span_processor(SimpleSpanProcessor(kept))
        recorder = Recorder(exporting)
        call = CallSpan(exporting.provider.get_tracer("t").start_span("waits"))
        recorder._deliveries.publishing(call, [entry().event])
        recorder._deliveries.ended(call, has_failed=False)
        assert kept.get_finished_spans() == ()
        await recorder.close()
        return kept.get_finished_spans()

    assert [span.name for span in asyncio.run(life())] == ["waits"]


def test_deliveries_of_all_calls_are_awaited_within_a_bound() -> None:
    """Those of further calls are not recorded, and their spans end with them."""
    awaited = Deliveries()
    for n in range(MAX_WAITING // MAX_EVENTS + 5):
        call = CallSpan(FakeSpan())
        awaited.publishing(call, [entry(f"{n}-{m}").event for m in range(MAX_EVENTS + 1)])
    assert len(awaited._awaited) == MAX_WAITING
    awaited.ended(call, has_failed=False)
    assert call.span.ends == [call.ended_ns]


def test_two_calls_that_publish_one_uuid_record_one_delivery() -> None:
    """The duplicate ends with its call, and takes nothing from the other one."""
    awaited, first, second = Deliveries(), CallSpan(FakeSpan()), CallSpan(FakeSpan())
    awaited.publishing(first, [entry().event])
    awaited.publishing(second, [entry().event])
    awaited.published(second, [Accepted(entry().event, duplicate=True, found=True)])
    awaited.ended(second, has_failed=False)
    assert second.span.ends == [second.ended_ns]
    awaited.delivered(entry(), 1)
    assert len(first.span.events) == 1
