"""The admin panel: a page, and the numbers behind it."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from channelstream.pages.access import Gate
from channelstream.pages.html import HEADERS, Renderer, redirect

Overview = Callable[[], Awaitable[dict[str, Any]]]


class Admin:
    """`/admin`, `/admin/admin.json` and `/admin/debug`; strangers are sent to the sign-in form."""

    def __init__(self, gate: Gate, renderer: Renderer, overview: Overview) -> None:
        self._gate = gate
        self._renderer = renderer
        self._overview = overview

    def routes(self) -> list[BaseRoute]:
        page = self._gate.guarded(self._page, to_sign_in)
        numbers = self._gate.guarded(self._numbers, to_sign_in)
        return [
            Route("/admin", page, methods=["GET"]),
            Route("/admin/admin.json", numbers, methods=["GET", "POST"]),
            Route("/admin/debug", numbers, methods=["GET"]),
        ]

    async def _page(self, request: Request) -> Response:
        return self._renderer.page(request, "admin.html")

    async def _numbers(self, request: Request) -> Response:
        return json_response(await self._overview())


def to_sign_in(request: Request) -> Response:
    return redirect(request, "/admin/sign_in")


def json_response(document: Any) -> Response:
    return Response(msgspec.json.encode(document), 200, dict(HEADERS), "application/json")
