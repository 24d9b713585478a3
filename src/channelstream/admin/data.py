"""The data of the admin pages: a stream of figures, pages of tables, details, and the admin's actions."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from channelstream.admin.actions import ACTIONS, described
from channelstream.admin.acts import Acts
from channelstream.admin.listing import PageRequest
from channelstream.admin.panel import DETAILS, Panel, Reading
from channelstream.admin.tables import TABLES
from channelstream.errors import NotFound
from channelstream.pages.caller import caller_of
from channelstream.pages.html import HEADERS, json_response
from channelstream.pages.row import Endpoint, PageRight, Row, to_sign_in_or_401

ACTION_BYTES = 65_536
"""Longest body of an action; a longer one is refused with 413."""
NAME_CHARACTERS = 512
"""Longest name or search text. A longer text is truncated."""
LAST_PAGE = 1_000_000
RETRY_MS = 500
"""How soon a browser reconnects after its stream has ended. The server ends each stream after a while."""


class AdminData:
    """The endpoints below `/admin` that return data."""

    def __init__(self, panel: Panel, acts: Acts) -> None:
        self._panel = panel
        self._acts = acts

    def rows(self) -> list[Row]:
        gets = {
            "/admin/debug": self._document,
            "/admin/live": self._live,
            "/admin/data/history": self._history,
            "/admin/data/acts": _answering(self._acts.read),
            **{f"/admin/data/{name}": _answering(read) for name, read in self._panel.readings.items()},
            **{f"/admin/data/{name}": self._table(name) for name in TABLES},
            **{f"/admin/data/{kind}": self._detail(kind) for kind in DETAILS},
        }
        return [
            _look("/admin/admin.json", self._document, ("GET", "POST")),
            *(_look(path, endpoint) for path, endpoint in gets.items()),
            *(self._action(name) for name in ACTIONS),
        ]

    async def _document(self, request: Request) -> Response:
        parts = await self._panel.document()
        headers = {**HEADERS, "Content-Length": str(sum(map(len, parts)))}
        return StreamingResponse(_each(parts), headers=headers, media_type="application/json")

    async def _history(self, request: Request) -> Response:
        query = request.query_params
        return json_response(
            await self._panel.history(query.get("range", "hour"), _number(query.get("since")))
        )

    def _table(self, name: str) -> Endpoint:
        async def table(request: Request) -> Response:
            query = request.query_params
            descending = query.get("descending") == "true"
            search = query.get("search", "").strip()[:NAME_CHARACTERS]
            asked = PageRequest(
                search, query.get("sort", ""), descending, _page(query.get("page")), dict(query)
            )
            return json_response(await self._panel.table(name, asked))

        return table

    def _detail(self, kind: str) -> Endpoint:
        async def detail(request: Request) -> Response:
            found = await self._panel.detail(kind, request.query_params.get("name", "")[:NAME_CHARACTERS])
            if found is None:
                raise NotFound(f"There is no such {kind}.")
            return json_response(found)

        return detail

    async def _live(self, request: Request) -> Response:
        """Send figures as server-sent events while the page watches."""
        events = self._panel.watch()
        headers = {**HEADERS, "X-Accel-Buffering": "no"}
        return StreamingResponse(blocks(events), headers=headers, media_type="text/event-stream")

    def _action(self, name: str) -> Row:
        async def act(request: Request) -> Response:
            body, caller = await request.body(), caller_of(request)
            answer = await self._panel.act(name, body, caller.name)
            if answer is not False:  # There was a connection to end.
                self._acts.record(described(caller, name, body))
            return json_response(answer)

        return Row(
            f"/admin/do/{name}",
            act,
            PageRight.CHANGE,
            methods=("POST",),
            refuse=to_sign_in_or_401,
            max_body_bytes=ACTION_BYTES,
        )


def _look(path: str, endpoint: Endpoint, methods: tuple[str, ...] = ("GET",)) -> Row:
    return Row(path, endpoint, PageRight.LOOK, methods, refuse=to_sign_in_or_401)


def _answering(read: Reading) -> Endpoint:
    async def answer(request: Request) -> Response:
        found = await read()
        return json_response({"rows": found} if isinstance(found, list) else found)

    return answer


async def _each(parts: Sequence[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def blocks(events: AsyncIterator[dict[str, Any]]) -> AsyncIterator[bytes]:
    """Yield each event as a block of the stream (WHATWG HTML, 9.2.5). The JSON has no line breaks."""
    yield b"retry: %d\n\n" % RETRY_MS
    async for event in events:
        yield b"data: %b\n\n" % msgspec.json.encode(event)


def _page(text: str | None) -> int:
    """Return the number of a page, `LAST_PAGE` at most."""
    return min(_number(text), LAST_PAGE)


def _number(text: str | None) -> int:
    """Return a whole number of at most 10 digits; any other text means 0."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) <= 10 else 0
