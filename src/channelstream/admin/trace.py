"""The trace page: why an event was not delivered. A GET shows a trace and changes nothing; a POST starts one.

The page streams the notes; programs read them as JSON.
"""

from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from channelstream.admin.data import blocks
from channelstream.admin.traces import Traces
from channelstream.core.trace import PAYLOAD_BYTES
from channelstream.core.trace_filter import EVENT_TYPES, EVERYTHING, OUTCOMES, NoteFilter
from channelstream.errors import ChannelstreamError, Forbidden, Malformed
from channelstream.pages.act import Did, Record, act_of
from channelstream.pages.bounded import Bounded
from channelstream.pages.caller import Caller, caller_of
from channelstream.pages.form import read_form
from channelstream.pages.html import HEADERS, Renderer, json_response, redirect
from channelstream.pages.refusals import SIGN_IN, refuse_page
from channelstream.pages.row import PageRight, Row, to_sign_in_or_401

BODY_BYTES = 4096
MINUTES = 5
"""How long a trace runs by default."""
KINDS = ("user", "channel", "conn_id")
LOOKS = 1024
"""Most looks at payloads that are remembered, so that each caller's at a trace is recorded once."""
PAGES = {"conn_id": "connection"}
"""Kinds whose page has another name."""


class TracePage:
    """`/admin/trace` for people, `/admin/trace.json` for programs."""

    def __init__(self, renderer: Renderer, traces: Traces, record: Record) -> None:
        self._renderer = renderer
        self._traces = traces
        self._record = record
        self._looks: Bounded[tuple[str, str, str, float], None] = Bounded(LOOKS)

    def rows(self) -> list[Row]:
        look, change, post = PageRight.LOOK, PageRight.CHANGE, ("POST",)
        path, json_path, refuse = "/admin/trace", "/admin/trace.json", refuse_page(Forbidden(SIGN_IN))
        return [
            Row(path, self._view, look),
            Row(path, self._start, change, post, max_body_bytes=BODY_BYTES),
            Row(f"{path}/live", self._live, look, refuse=to_sign_in_or_401),
            Row(json_path, self._view_json, look, refuse=refuse),
            Row(json_path, self._start_json, change, post, refuse=refuse, max_body_bytes=BODY_BYTES),
        ]

    async def _view(self, request: Request) -> Response:
        if "application/json" in request.headers.get("accept", ""):
            return await self._view_json(request)
        try:
            kind, name = _subject(request.query_params)
            self._traces.check(kind, name)
            return await self._show(request, kind, name, _only(request.query_params))
        except ChannelstreamError as error:
            return await self._show(request, error=error)

    async def _live(self, request: Request) -> Response:
        """Send the newest notes, and then new ones, as server-sent events while the page watches."""
        query, caller = request.query_params, caller_of(request)
        events = self._seen_by(caller, self._traces.watch(*_named_subject(query), _only(query)))
        headers = {**HEADERS, "X-Accel-Buffering": "no"}
        return StreamingResponse(blocks(events), headers=headers, media_type="text/event-stream")

    async def _view_json(self, request: Request) -> Response:
        return json_response(await self._document(request.query_params, caller_of(request)))

    async def _document(self, query: Mapping[str, str], caller: Caller) -> dict[str, Any]:
        kind, name = _subject(query)
        cursor = self._traces.cursor(query.get("after", "0"))
        found = await self._traces.read(kind, name, cursor, _only(query)) if name else {}
        self._look(caller, found)
        return {**found, "traces": await self._traces.listing()}

    async def _seen_by(
        self, caller: Caller, events: AsyncIterator[dict[str, Any]]
    ) -> AsyncIterator[dict[str, Any]]:
        async for found in events:
            self._look(caller, found)
            yield found

    def _look(self, caller: Caller, found: Mapping[str, Any]) -> None:
        """Record that a caller is shown payloads, once of each trace that has them."""
        if not any(note["fact"]["payload"] is not None for note in found.get("notes", ())):
            return
        kind, name, asked = found["kind"], found["name"], found["asked"] or {}
        look = caller.name, kind, name, asked.get("at_s", 0.0)
        if look not in self._looks:
            self._looks[look] = None
            self._record(act_of(caller, Did.LOOKED, PAGES.get(kind, kind), name))

    async def _start(self, request: Request) -> Response:
        try:
            kind, name = await self._begin(request, read_form(await request.body()))
        except ChannelstreamError as error:
            return await self._show(request, error=error)
        return redirect(request, f"/admin/trace?{urlencode({kind: name})}")

    async def _start_json(self, request: Request) -> Response:
        try:
            fields = msgspec.json.decode(await request.body(), type=dict[str, str])
        except msgspec.DecodeError as error:
            raise Malformed("Send a JSON object of texts.") from error
        kind, name = await self._begin(request, fields)
        found = await self._traces.read(kind, name, {})
        self._look(caller_of(request), found)
        return json_response(found)

    async def _begin(self, request: Request, fields: Mapping[str, str]) -> tuple[str, str]:
        """Start or stop the trace that the fields name, and return its kind and name."""
        kind, name = _named_subject(fields)
        minutes, caller = _number(fields, "minutes", MINUTES), caller_of(request)
        payloads_for = caller.name if _switch(fields, "payload") else ""
        await self._traces.start(kind, name, minutes, payloads_for)
        did, more = (Did.STARTED_TRACE, f"for {minutes} min") if minutes else (Did.STOPPED_TRACE, "")
        more += ", with payload" if minutes and payloads_for else ""
        self._record(act_of(caller, did, PAGES.get(kind, kind), name, more))
        return kind, name

    async def _show(
        self,
        request: Request,
        kind: str = "",
        name: str = "",
        only: NoteFilter = EVERYTHING,
        error: ChannelstreamError | None = None,
    ) -> Response:
        context = {
            "kinds": KINDS,
            "kind": kind if name else "",
            "page": PAGES.get(kind, kind),
            "name": name,
            "only": only,
            "is_filtered": only != EVERYTHING,
            "types": EVENT_TYPES,
            "outcomes": OUTCOMES,
            "fault": error.message if error else "",
            "traces": await self._traces.listing(),
            "minutes": MINUTES,
            "payload_bytes": PAYLOAD_BYTES,
        }
        return await self._renderer.page(
            request, "trace.html", context, status=error.http_status if error else 200
        )


def _subject(fields: Mapping[str, str]) -> tuple[str, str]:
    """Return kind and name from `user=…`, `channel=…`, `conn_id=…`, or the form's `kind=…&name=…`."""
    named = next(((kind, fields[kind]) for kind in KINDS if fields.get(kind)), None)
    return named or (fields.get("kind", "user"), fields.get("name", ""))


def _named_subject(fields: Mapping[str, str]) -> tuple[str, str]:
    """Return kind and name, as `_subject` does.

    Raises:
        Malformed: there is no name.
    """
    kind, name = _subject(fields)
    if not name:
        raise Malformed("Name a user, a channel or a conn_id.")
    return kind, name


def _only(query: Mapping[str, str]) -> NoteFilter:
    """Return the filter of `only_user=…`, `only_channel=…`, `only_conn_id=…`, `only_type=…` and `only_outcome=…`."""
    return NoteFilter(**{name: query.get(f"only_{name}") or None for name in NoteFilter.__struct_fields__})


def _number(fields: Mapping[str, str], name: str, default: int) -> int:
    """Return the value of a field as a whole number of at most 9 digits.

    Raises:
        Malformed: it is not such a number.
    """
    text = fields.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise Malformed(f"{name} must be a whole number.")
    return int(text)


def _switch(fields: Mapping[str, str], name: str) -> bool:
    """Return whether a field is `true`.

    Raises:
        Malformed: it is neither that nor `false`.
    """
    text = fields.get(name, "false")
    if text not in ("true", "false"):
        raise Malformed(f"{name} must be true or false.")
    return text == "true"
