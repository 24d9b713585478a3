"""The trace page: why an event was not delivered. A GET shows a trace and changes nothing; a POST starts one."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from channelstream.admin.traces import Traces
from channelstream.errors import ChannelstreamError, Forbidden, Malformed
from channelstream.pages.access import Gate, to_sign_in
from channelstream.pages.form import read_form
from channelstream.pages.html import Renderer, json_response, redirect
from channelstream.pages.origin import is_same_origin
from channelstream.pages.refusals import FOREIGN, SIGN_IN, error_response, refuse_page

BODY_BYTES = 4096
MINUTES = 5
"""How long a trace runs by default."""
KINDS = ("user", "channel", "conn_id")


class TracePage:
    """`/admin/trace` for people, `/admin/trace.json` for programs."""

    def __init__(self, gate: Gate, renderer: Renderer, traces: Traces) -> None:
        self._gate = gate
        self._renderer = renderer
        self._traces = traces

    def routes(self) -> list[BaseRoute]:
        view = self._gate.guarded(self._view, to_sign_in)
        start = self._gate.guarded(self._start, to_sign_in)
        view_json = self._gate.guarded(self._view_json, refuse_page(Forbidden(SIGN_IN)))
        start_json = self._gate.guarded(self._start_json, refuse_page(Forbidden(SIGN_IN)))
        return [
            Route("/admin/trace", view, methods=["GET"]),
            Route("/admin/trace", start, methods=["POST"], max_body_size=BODY_BYTES),
            Route("/admin/trace.json", view_json, methods=["GET"]),
            Route("/admin/trace.json", start_json, methods=["POST"], max_body_size=BODY_BYTES),
        ]

    async def _view(self, request: Request) -> Response:
        if "application/json" in request.headers.get("accept", ""):
            return await self._view_json(request)
        try:
            return await self._show(request, await self._document(request.query_params))
        except ChannelstreamError as error:
            return await self._show(request, {}, error)

    async def _view_json(self, request: Request) -> Response:
        try:
            return json_response(await self._document(request.query_params))
        except ChannelstreamError as error:
            return error_response(error)

    async def _document(self, query: Mapping[str, str]) -> dict[str, Any]:
        kind, name = _subject(query)
        cursor = self._traces.cursor(query.get("after", "0"))
        found = await self._traces.read(kind, name, cursor) if name else {}
        return {**found, "traces": await self._traces.listing()}

    async def _start(self, request: Request) -> Response:
        if not is_same_origin(request):
            return error_response(Forbidden(FOREIGN))
        try:
            kind, name = await self._begin(read_form(await request.body()))
        except ChannelstreamError as error:
            return await self._show(request, {}, error)
        return redirect(request, f"/admin/trace?{urlencode({kind: name})}")

    async def _start_json(self, request: Request) -> Response:
        if not is_same_origin(request):
            return error_response(Forbidden(FOREIGN))
        try:
            fields = msgspec.json.decode(await request.body(), type=dict[str, str])
            kind, name = await self._begin(fields)
            return json_response(await self._traces.read(kind, name, {}))
        except msgspec.DecodeError:
            return error_response(Malformed("Send a JSON object of texts."))
        except ChannelstreamError as error:
            return error_response(error)

    async def _begin(self, fields: Mapping[str, str]) -> tuple[str, str]:
        """Start or stop the trace that the fields name, and return its kind and name."""
        kind, name = _subject(fields)
        if not name:
            raise Malformed("Name a user, a channel or a conn_id.")
        await self._traces.start(kind, name, _number(fields, "minutes", MINUTES))
        return kind, name

    async def _show(
        self, request: Request, found: Mapping[str, Any], error: ChannelstreamError | None = None
    ) -> Response:
        context = {
            "found": {"kind": "", "name": "", **found},
            "fault": error.message if error else "",
            "traces": await self._traces.listing(),
            "minutes": MINUTES,
        }
        return await self._renderer.page(
            request, "trace.html", context, status=error.http_status if error else 200
        )


def _subject(fields: Mapping[str, str]) -> tuple[str, str]:
    """Return kind and name from `user=…`, `channel=…`, `conn_id=…`, or the form's `kind=…&name=…`."""
    named = next(((kind, fields[kind]) for kind in KINDS if fields.get(kind)), None)
    return named or (fields.get("kind", "user"), fields.get("name", ""))


def _number(fields: Mapping[str, str], name: str, default: int) -> int:
    """Return the value of a field as a whole number of at most 9 digits.

    Raises:
        Malformed: it is not such a number.
    """
    text = fields.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise Malformed(f"{name} must be a whole number.")
    return int(text)
