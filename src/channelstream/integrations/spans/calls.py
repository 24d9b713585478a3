"""A span for each API call that its credentials admit.

Strangers fill no collector: a call that is refused for its address or signature has no span, and one that needs no
credentials has one only if it takes effect. Its `traceparent` is not followed: its span begins a trace of its own.

A span has no text of the request but its trace context: no query, header, body, address or name.
"""

from dataclasses import replace
from functools import partial
from typing import Any

from opentelemetry.trace import SpanKind, StatusCode, format_span_id, format_trace_id
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from channelstream.api.call import Call, finished
from channelstream.api.table import Auth, Endpoint
from channelstream.errors import ChannelstreamError
from channelstream.http.response import Response
from channelstream.integrations.spans.deliveries import CallSpan, Deliveries, current

MAX_TRACESTATE = 512
"""Longest `tracestate` that is exported with a span, in bytes (W3C Trace Context, 3.3.1.5); a longer one is ignored."""
APPLICATION = "channelstream.application"
METHOD, ROUTE, PATH, SCHEME = "http.request.method", "http.route", "url.path", "url.scheme"
STATUS, ERROR = "http.response.status_code", "error.type"
SERVER_ERROR = 500

_propagator = TraceContextTextMapPropagator()


class Calls:
    """Gives each call of the API a span."""

    def __init__(self, tracer: Any, deliveries: Deliveries) -> None:
        self._tracer = tracer
        self._deliveries = deliveries

    def recorded(self, row: Endpoint) -> Endpoint:
        """Return a row whose calls have spans."""
        return replace(row, handler=partial(self._answer, row))

    async def _answer(self, row: Endpoint, call: Call) -> Any:
        span = self._start(row, call)
        call.span = _traceparent(span)
        if not span.is_recording():
            return await finished(row.handler(call))
        return await self._answer_recorded(row, call, CallSpan(span))

    async def _answer_recorded(self, row: Endpoint, call: Call, recorded: CallSpan) -> Any:
        span, token, has_failed, has_effect = recorded.span, current.set(recorded), True, False
        try:
            result = await finished(row.handler(call))
            span.set_attribute(STATUS, result.status if isinstance(result, Response) else 200)
            has_failed, has_effect = False, result is not False
        except BaseException as error:
            _fail(span, error)
            raise
        finally:
            current.reset(token)
            # A span that does not end is not exported.
            if has_effect or row.auth is not Auth.NONE:
                self._deliveries.ended(recorded, has_failed)
        return result

    def _start(self, row: Endpoint, call: Call) -> Any:
        return self._tracer.start_span(
            f"{call.method} {row.path}",
            context=_parent(call) if row.auth is not Auth.NONE else None,
            kind=SpanKind.SERVER,
            attributes={
                METHOD: call.method,
                ROUTE: row.path,
                PATH: row.path,
                SCHEME: call.scheme,
                APPLICATION: call.service.app.id,
            },
        )


def _parent(call: Call) -> Any:
    """Return the context of the caller's span; None if the call names none, an empty one if that is malformed."""
    traceparent, tracestate = (call.header(name) for name in (b"traceparent", b"tracestate"))
    if traceparent is None:
        return None
    carrier = {"traceparent": traceparent.decode("latin-1")}
    if tracestate is not None and len(tracestate) <= MAX_TRACESTATE:
        carrier["tracestate"] = tracestate.decode("latin-1")
    return _propagator.extract(carrier)


def _traceparent(span: Any) -> str | None:
    """Return the trace context of a span; None if there is none, as where the SDK is disabled."""
    context = span.get_span_context()
    if not context.is_valid:
        return None
    return (
        f"00-{format_trace_id(context.trace_id)}-{format_span_id(context.span_id)}-{context.trace_flags:02x}"
    )


def _fail(span: Any, error: BaseException) -> None:
    """Record a failure. By the conventions of OpenTelemetry a fault of the caller is no error of a server's span."""
    kind, status = type(error).__name__, SERVER_ERROR
    if isinstance(error, ChannelstreamError):
        kind, status = error.code, error.http_status
    span.set_attribute(ERROR, kind)
    if not isinstance(error, Exception):
        return  # It is cancelled: there is no answer.
    span.set_attribute(STATUS, status)
    if status >= SERVER_ERROR:
        span.set_status(StatusCode.ERROR)
