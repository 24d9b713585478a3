"""Spans of OpenTelemetry: one for each call, with its deliveries, in the trace of its caller; recorded by the real SDK."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from itsdangerous import TimestampSigner
from msgspec import json
from tests.http.test_router import asked
from tests.waiting import soon

from channelstream.config import Settings
from channelstream.core.accepted import Accepted
from channelstream.core.events import Event
from channelstream.engines.memory import MemoryEngine
from channelstream.engines.user_groups import USERS_AT_ONCE
from channelstream.errors import Unavailable
from channelstream.http.request import Part
from channelstream.http.response import Response
from channelstream.integrations.spans.base import NoSpans, make_spans
from channelstream.server import Server, build

pytest.importorskip("opentelemetry.sdk.trace", reason="channelstream[otel] is not installed")
pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="channelstream[otel] is not installed")

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import NoOpTracerProvider

from channelstream.integrations.spans.deliveries import MAX_EVENTS
from channelstream.integrations.spans.recorder import Recorder

SECRET = "a-secret-of-the-spans"
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{SPAN}-01"
UUID = "6f1b1d3e-0f5a-4c39-9a53-0a8b2f7d1c11"


class Body:
    """The body of a request that has arrived (`http.request.Source`)."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def receive(self) -> Part:
        return self._body, False

    def take_whole(self) -> bytes:
        return self._body

    def line(self) -> None:
        return None


class Scene:
    """A server in this process, whose spans are kept in memory."""

    def __init__(self, provider: Any = None, **options: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = provider or TracerProvider(shutdown_on_exit=False)
        if isinstance(self.provider, TracerProvider):
            self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        recorder = Recorder(SimpleNamespace(provider=self.provider))  # type: ignore[arg-type]
        self.server = build(Settings(secret=SECRET, **options), spans=recorder)

    async def call(
        self, path: str, body: Any, *lines: str, method: str = "POST", sign: bool = True
    ) -> Response:
        signature = TimestampSigner(SECRET).sign(path).decode() if sign else "x.y.z"
        head = asked(path, method, f"x-channelstream-secret: {signature}", *lines, client="127.0.0.1")
        router = self.server._http_server.router
        response = await router.answer(router.request(head, Body(json.encode(body))))
        assert response is not None
        return response

    @property
    def spans(self) -> Sequence[Any]:
        return self.exporter.get_finished_spans()

    @property
    def span(self) -> Any:
        (span,) = self.spans
        return span


@asynccontextmanager
async def running(*args: Any, **options: Any) -> AsyncIterator[Scene]:
    scene = Scene(*args, **options)
    await scene.server.node.start()
    try:
        yield scene
    finally:
        await scene.server.node.close()


def events_of(span: Any) -> list[tuple[str, str, int]]:
    """Return the deliveries of a span: what, its uuid, and to how many connections."""
    return [
        (
            event.attributes["channelstream.event"],
            event.attributes["messaging.message.id"],
            event.attributes["channelstream.recipients"],
        )
        for event in span.events
    ]


async def connected(scene: Scene, users: int) -> None:
    """Register connections in the channel `a`, and forget the spans of these calls."""
    for n in range(users):
        await scene.call("/connect", {"username": f"u{n}", "channels": ["a"]})
    scene.exporter.clear()


def message(**more: Any) -> dict[str, Any]:
    return {"user": "app", "channel": "a", "message": 1, "uuid": UUID} | more


# -- the span of a call


def test_a_call_is_a_span_in_the_trace_of_its_caller() -> None:
    async def life() -> Any:
        async with running() as scene:
            state = f"rojo={SPAN}"
            await scene.call("/message", message(), f"traceparent: {TRACEPARENT}", f"tracestate: {state}")
            return scene.span

    span = asyncio.run(life())
    assert span.name == "POST /message"
    assert span.kind.name == "SERVER"
    assert f"{span.context.trace_id:032x}" == TRACE
    assert f"{span.parent.span_id:016x}" == SPAN
    assert span.context.trace_state.to_header() == f"rojo={SPAN}"
    assert span.end_time >= span.start_time
    assert span.attributes == {
        "http.request.method": "POST",
        "http.route": "/message",
        "url.path": "/message",
        "url.scheme": "http",
        "http.response.status_code": 200,
        "channelstream.application": "default",
        "channelstream.messages": 1,
    }


def test_the_scheme_is_the_one_that_a_trusted_proxy_reports() -> None:
    async def life() -> str:
        async with running(trusted_proxies=("127.0.0.1",)) as scene:
            await scene.call("/message", message(), "x-forwarded-proto: https")
            return str(scene.span.attributes["url.scheme"])

    assert asyncio.run(life()) == "https"


@pytest.mark.parametrize(
    "line",
    ["traceparent: 00-x", f"traceparent: {TRACEPARENT[:-1]}", "traceparent: ÿ", "tracestate: a=1", "x: y"],
)
def test_a_call_without_a_valid_context_begins_a_trace(line: str) -> None:
    async def life() -> Any:
        async with running() as scene:
            assert (await scene.call("/message", message(), line)).status == 200
            return scene.span

    assert asyncio.run(life()).parent is None


@pytest.mark.parametrize(("length", "members"), [(512, 2), (513, 0)])
def test_a_long_tracestate_is_left_out(length: int, members: int) -> None:
    """It would be kept with each span of the queue."""

    async def life() -> Any:
        async with running() as scene:
            state = f"a={'v' * 256},b=".ljust(length, "v")
            await scene.call("/message", message(), f"traceparent: {TRACEPARENT}", f"tracestate: {state}")
            return scene.span

    span = asyncio.run(life())
    assert (f"{span.context.trace_id:032x}", len(span.context.trace_state)) == (TRACE, members)


def test_strangers_make_no_spans_and_join_no_trace() -> None:
    """A call with a wrong signature has none. One that needs no signature has one in a new trace, if it takes effect."""

    async def life() -> Sequence[Any]:
        async with running() as scene:
            refused = await scene.call("/message", message(), f"traceparent: {TRACEPARENT}", sign=False)
            assert refused.status == 401
            assert scene.spans == ()
            await scene.call("/connect", {"username": "ann", "conn_id": UUID})
            scene.exporter.clear()
            for conn_id in ("unknown", UUID, UUID, ""):
                body = {"conn_id": conn_id}
                await scene.call("/disconnect", body, f"traceparent: {TRACEPARENT}", sign=False)
            return scene.spans

    (span,) = asyncio.run(life())
    assert (span.name, span.parent) == ("POST /disconnect", None)


def test_a_refused_call_has_its_status_and_is_no_error_of_the_server() -> None:
    async def life() -> Any:
        async with running() as scene:
            assert (await scene.call("/message", {"user": "app"})).status == 422
            return scene.span

    span = asyncio.run(life())
    assert span.attributes["http.response.status_code"] == 422
    assert span.attributes["error.type"] == "invalid"
    assert span.status.status_code.name == "UNSET"


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [(Unavailable("The engine is out of reach."), 503, "unavailable"), (KeyError("secret"), 500, "KeyError")],
)
def test_a_failed_call_is_an_error_without_its_text(
    error: Exception, status: int, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its span ends at once: nothing that it published is awaited any longer."""

    async def fail(_events: object) -> None:
        raise error

    async def life() -> Any:
        async with running() as scene:
            monkeypatch.setattr(scene.server.node._engine._engine, "publish", fail)
            assert (await scene.call("/message", message())).status == status
            return scene.span

    span = asyncio.run(life())
    assert span.attributes["http.response.status_code"] == status
    assert span.attributes["error.type"] == kind
    assert (span.status.status_code.name, span.status.description) == ("ERROR", None)
    assert list(span.events) == []


def test_a_cancelled_call_ends_its_span_without_a_status(monkeypatch: pytest.MonkeyPatch) -> None:
    async def life() -> Any:
        async with running() as scene:
            started = asyncio.Event()

            async def wait(_events: object) -> None:
                started.set()
                await asyncio.Event().wait()

            monkeypatch.setattr(scene.server.node._engine._engine, "publish", wait)
            call = asyncio.create_task(scene.call("/message", message()))
            await started.wait()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            return scene.span

    span = asyncio.run(life())
    assert span.attributes["error.type"] == "CancelledError"
    assert "http.response.status_code" not in span.attributes


def test_nothing_of_a_request_is_in_a_span() -> None:
    """No payload, name, signature, header, query or address."""

    async def life() -> str:
        async with running() as scene:
            await connected(scene, 1)
            private = message(user="sec-ret-user", channel="a", message="sec-ret-payload")
            await scene.call("/message", private, "cookie: sec-ret-cookie", "traceparent: sec-ret")
            await scene.call("/connect", {"username": "sec-ret-user", "channels": ["sec-ret-channel"]})
            await scene.call("/connect", {"username": "", "channels": ["sec-ret-channel"]})
            await scene.call("/connect", {"username": "ann", "conn_id": "sec-ret-id"})
            await scene.call("/disconnect?conn_id=sec-ret-id", {}, method="GET", sign=False)
            return "".join(span.to_json() for span in scene.spans)

    text = asyncio.run(life())
    assert text.count('"SpanKind.SERVER"') == 5
    assert "sec-ret" not in text
    assert "127.0.0.1" not in text
    assert SECRET not in text


# -- deliveries


def test_each_accepted_message_is_one_event_with_the_number_of_its_recipients() -> None:
    """Edits and deletions too; a duplicate is not delivered again."""

    async def life() -> Sequence[Any]:
        async with running() as scene:
            await connected(scene, 3)
            await scene.call("/message", [message(), message(uuid=UUID[:-1] + "2", channel="empty")])
            await scene.call("/message", message())
            await scene.call("/message", message(message=2), method="PATCH")
            await scene.call("/message", {"uuid": UUID, "channel": "a"}, method="DELETE")
            assert scene.server.node.deliver != scene.server.node.hub.deliver
            return scene.spans

    sent, again, edited, deleted = asyncio.run(life())
    assert events_of(sent) == [("message", UUID, 3), ("message", UUID[:-1] + "2", 0)]
    assert sent.attributes["channelstream.messages"] == 2
    assert events_of(again) == []
    assert (edited.name, events_of(edited)) == ("PATCH /message", [("edit", UUID, 3)])
    assert (deleted.name, events_of(deleted)) == ("DELETE /message", [("delete", UUID, 3)])


def test_a_call_has_a_bounded_number_of_events() -> None:
    """All its messages are counted; those of a long list are published in several turns."""

    async def life() -> Any:
        async with running() as scene:
            body = [message(uuid=f"00000000-0000-4000-8000-{n:012}") for n in range(150)]
            await scene.call("/message", body)
            return scene.span

    span = asyncio.run(life())
    assert len(span.events) == MAX_EVENTS
    assert span.attributes["channelstream.messages"] == 150


def test_a_message_in_steps_is_one_event_and_one_message() -> None:
    """That of its first step."""

    async def life() -> Any:
        async with running() as scene:
            await connected(scene, 1)
            users = ["u0", *(f"none {n}" for n in range(3 * USERS_AT_ONCE))]
            await scene.call("/message", message(channel=None, pm_users=users))
            return scene.span

    span = asyncio.run(life())
    assert [event[:2] for event in events_of(span)] == [("message", UUID)]
    assert span.attributes["channelstream.messages"] == 1


def test_a_file_engine_reports_its_deliveries_as_well(tmp_path: Any) -> None:
    """It delivers what is committed, in another context than that of the call."""

    async def life() -> Any:
        async with running(engine=f"sqlite:///{tmp_path / 'log.db'}") as scene:
            await connected(scene, 2)
            await scene.call("/message", message())
            await soon(lambda: len(scene.spans) == 1, "the span does not end")
            return scene.span

    assert events_of(asyncio.run(life())) == [("message", UUID, 2)]


def test_a_delivery_after_the_answer_is_in_the_span_of_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with Redis, which notifies a node when it can. The span is exported when all are delivered."""

    async def life() -> Any:
        async with running() as scene:
            await connected(scene, 2)
            engine = scene.server.node._engine._engine
            deliver, accepted = engine.publish, list[Event]()

            async def accept(events: Sequence[Event]) -> list[Accepted]:
                accepted.extend(events)
                return [Accepted(event, duplicate=False, found=True) for event in events]

            monkeypatch.setattr(engine, "publish", accept)
            messages = [message(), message(uuid=UUID[:-1] + "2")]
            assert (await scene.call("/message", messages)).status == 200
            await deliver(accepted[:1])
            assert scene.spans == ()
            await deliver(accepted[1:])
            return scene.span

    assert events_of(asyncio.run(life())) == [("message", UUID, 2), ("message", UUID[:-1] + "2", 2)]


def test_a_call_without_a_span_adds_nothing_to_that_of_an_earlier_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Where a task makes several calls, as a server of ASGI may, and the caller's trace is not sampled."""

    async def life() -> Any:
        async with running() as scene:
            await scene.call("/message", message())
            unsampled = f"traceparent: {TRACEPARENT[:-1]}0"
            assert (await scene.call("/message", message(uuid=UUID[:-1] + "2"), unsampled)).status == 200
            return scene.span

    assert events_of(asyncio.run(life())) == [("message", UUID, 0)]
    assert caplog.messages == []  # An event of a span that has ended is a warning of the SDK.


# -- the context of a message


@pytest.mark.parametrize("is_sampled", [True, False])
def test_a_message_names_the_span_of_its_call(is_sampled: bool) -> None:
    """Also one that is not sampled: its flags say so."""

    async def life() -> tuple[str, Scene]:
        provider = None if is_sampled else TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
        async with running(provider) as scene:
            body = message(include_traceparent=True)
            await scene.call("/channel_config", {"a": {"store_history": True}})
            scene.exporter.clear()
            await scene.call("/message", body, f"traceparent: {TRACEPARENT}")
            return await kept(scene), scene

    context, scene = asyncio.run(life())
    version, trace, span, flags = context.split("-")
    assert (version, trace, flags) == ("00", TRACE, "01" if is_sampled else "00")
    assert span != SPAN
    if is_sampled:
        (published,) = (span for span in scene.spans if span.name == "POST /message")
        assert span == f"{published.context.span_id:016x}"
    else:
        assert scene.spans == ()


def test_a_message_names_the_caller_where_the_sdk_is_disabled() -> None:
    async def life() -> str:
        async with running(NoOpTracerProvider()) as scene:
            await scene.call("/channel_config", {"a": {"store_history": True}})
            await scene.call("/message", message(include_traceparent=True), f"traceparent: {TRACEPARENT}")
            return await kept(scene)

    assert asyncio.run(life()) == TRACEPARENT


async def kept(scene: Scene) -> str:
    """Return the trace context of the message in the history."""
    answer = await scene.call("/info", {"info": {"channels": ["a"]}})
    assert isinstance(answer.body, bytes)
    (item,) = json.decode(answer.body)["channels"]["a"]["history"]
    return str(item["traceparent"])


# -- off


def test_off_leaves_everything_as_it_is() -> None:
    """The hub is called by the engine itself, and no handler or engine is wrapped."""
    server: Server = build(Settings(secret=SECRET))
    assert isinstance(make_spans(False), NoSpans)
    assert server.node.deliver == server.node.hub.deliver
    assert isinstance(server.node._engine, MemoryEngine)
    engine, row = object(), object()
    assert NoSpans().watched(engine) is engine
    assert NoSpans().recorded(row) is row  # type: ignore[arg-type, comparison-overlap]
