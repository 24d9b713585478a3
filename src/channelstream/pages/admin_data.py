"""What the admin's pages are made of: figures as a stream, pages of tables, single things, and what an admin may do."""

from collections.abc import AsyncIterator
from typing import Any, Protocol

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from channelstream.errors import ChannelstreamError, Forbidden, NotFound
from channelstream.pages.access import Endpoint, Gate
from channelstream.pages.admin import DETAILS, TABLES, json_response, to_sign_in
from channelstream.pages.html import HEADERS
from channelstream.pages.origin import is_same_origin
from channelstream.pages.refusals import FOREIGN, error_response

ACTIONS = ("disconnect", "settings", "message")
ACTION_BYTES = 65_536
"""Longest body of an action; a longer one is refused with 413."""
NAME_CHARACTERS = 512
"""Longest name that is looked up, and longest text that is searched for; of a longer one the beginning counts."""
LAST_PAGE = 1_000_000
RETRY_MS = 500
"""How soon a browser comes back when its stream has ended, which each does after a while."""


class Panel(Protocol):
    """What the server tells its admin; `admin.panel` is it."""

    async def document(self) -> bytes:
        """Return what `/admin/admin.json` shows, as JSON."""

    async def table(
        self, name: str, search: str, sort: str, descending: bool, page: int
    ) -> dict[str, Any] | None:
        """Return a page of a table; None when there is no such table."""

    async def detail(self, kind: str, name: str) -> dict[str, Any] | None:
        """Describe one thing of a kind; None when there is no such kind or thing."""

    def endings(self) -> list[dict[str, Any]]:
        """Return how streams and connections ended lately, newest first."""

    def slow_turns(self) -> dict[str, Any]:
        """Return the figures of the event loop, and its last slow turns, newest first."""

    async def act(self, action: str, body: bytes) -> Any:
        """Do one of `ACTIONS`; raises ChannelstreamError where the API's call would."""

    def watch(self) -> AsyncIterator[dict[str, Any]]:
        """Return figures as they come; raises Unavailable when too many watch."""


class AdminData:
    """Everything below `/admin` that is no page for people."""

    def __init__(self, gate: Gate, panel: Panel) -> None:
        self._gate = gate
        self._panel = panel

    def routes(self) -> list[BaseRoute]:
        gets = {
            "/admin/debug": self._document,
            "/admin/live": self._live,
            "/admin/data/endings": self._endings,
            "/admin/data/slow_turns": self._slow_turns,
            **{f"/admin/data/{name}": self._table(name) for name in TABLES},
            **{f"/admin/data/{kind}": self._detail(kind) for kind in DETAILS},
        }
        document = self._guarded(self._document)
        return [
            Route("/admin/admin.json", document, methods=["GET", "POST"]),
            *(Route(path, self._guarded(endpoint), methods=["GET"]) for path, endpoint in gets.items()),
            *(self._action(name) for name in ACTIONS),
        ]

    def _guarded(self, endpoint: Endpoint) -> Endpoint:
        return self._gate.guarded_data(answered(endpoint), to_sign_in)

    async def _document(self, request: Request) -> Response:
        return Response(await self._panel.document(), headers=HEADERS, media_type="application/json")

    async def _endings(self, request: Request) -> Response:
        return json_response({"rows": self._panel.endings()})

    async def _slow_turns(self, request: Request) -> Response:
        return json_response(self._panel.slow_turns())

    def _table(self, name: str) -> Endpoint:
        async def table(request: Request) -> Response:
            query = request.query_params
            descending = query.get("descending") == "true"
            search = query.get("search", "").strip()[:NAME_CHARACTERS]
            return json_response(
                await self._panel.table(
                    name, search, query.get("sort", ""), descending, _page(query.get("page"))
                )
            )

        return table

    def _detail(self, kind: str) -> Endpoint:
        async def detail(request: Request) -> Response:
            found = await self._panel.detail(kind, request.query_params.get("name", "")[:NAME_CHARACTERS])
            if found is None:
                raise NotFound(f"There is no such {kind}.")
            return json_response(found)

        return detail

    async def _live(self, request: Request) -> Response:
        """Send figures as server-sent events for as long as the page watches."""
        events = self._panel.watch()
        headers = {**HEADERS, "X-Accel-Buffering": "no"}
        return StreamingResponse(_blocks(events), headers=headers, media_type="text/event-stream")

    def _action(self, name: str) -> Route:
        async def act(request: Request) -> Response:
            if not is_same_origin(request):
                raise Forbidden(FOREIGN)
            return json_response(await self._panel.act(name, await request.body()))

        return Route(f"/admin/do/{name}", self._guarded(act), methods=["POST"], max_body_size=ACTION_BYTES)


def answered(endpoint: Endpoint) -> Endpoint:
    """Return an endpoint that answers our errors as the API does."""

    async def answered(request: Request) -> Response:
        try:
            return await endpoint(request)
        except ChannelstreamError as error:
            return error_response(error)

    return answered


async def _blocks(events: AsyncIterator[dict[str, Any]]) -> AsyncIterator[bytes]:
    """Write each event as a block of the stream (WHATWG HTML, 9.2.5); JSON has no line breaks."""
    yield b"retry: %d\n\n" % RETRY_MS
    async for event in events:
        yield b"data: %b\n\n" % msgspec.json.encode(event)


def _page(text: str | None) -> int:
    """Read the number of a page; what is none stands for the first."""
    return min(int(text), LAST_PAGE) if text and text.isascii() and text.isdigit() and len(text) < 10 else 0
