"""The API explorer: Swagger UI with the server's OpenAPI document. The server signs its calls."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
from itsdangerous import TimestampSigner
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from channelstream.errors import Forbidden, Malformed, NotFound
from channelstream.pages.access import Gate, to_sign_in
from channelstream.pages.html import CONTENT_SECURITY_POLICY, Renderer, json_response, root
from channelstream.pages.origin import is_same_origin
from channelstream.pages.refusals import SIGN_IN, error_response, refuse_page

SIGN_BYTES = 1024
# Swagger UI's style sheet contains its icons as data: images.
EXPLORER_POLICY = {"Content-Security-Policy": CONTENT_SECURITY_POLICY + "; img-src 'self' data:"}


class Explorer:
    """`/api-explorer`, `/openapi.json` and `/admin/sign`, which signs the explorer's calls.

    Args:
        openapi: returns the OpenAPI document; called in a thread.
        secret: the API's secret. It never leaves the server; only signatures of single paths do.
    """

    def __init__(
        self, gate: Gate, renderer: Renderer, openapi: Callable[[], dict[str, Any]], secret: str
    ) -> None:
        self._gate = gate
        self._renderer = renderer
        self._openapi = openapi
        self._signer = TimestampSigner(secret)

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/api-explorer", self._gate.guarded(self._page, to_sign_in), methods=["GET"]),
            Route(
                "/openapi.json",
                self._gate.guarded(self._document, refuse_page(Forbidden(SIGN_IN))),
                methods=["GET"],
            ),
            Route("/admin/sign", self._sign, methods=["POST"], max_body_size=SIGN_BYTES),
        ]

    async def _page(self, request: Request) -> Response:
        return await self._renderer.page(request, "explorer.html", headers=EXPLORER_POLICY)

    async def _document(self, request: Request) -> Response:
        return json_response({**await self._described(), "servers": [{"url": root(request) or "/"}]})

    async def _described(self) -> dict[str, Any]:
        """Return the OpenAPI document; in a thread, since building it takes the time of several loop turns."""
        return await asyncio.to_thread(self._openapi)

    async def _sign(self, request: Request) -> Response:
        """Sign one path of the API for the signed-in admin's own page."""
        if not (self._gate.has_ticket(request) and is_same_origin(request)):
            return error_response(Forbidden("Sign in first, and send this from the explorer's own page."))
        try:
            path = msgspec.json.decode(await request.body(), type=dict[str, str]).get("path", "")
        except msgspec.DecodeError:
            return error_response(Malformed("Send a JSON object with a path."))
        if path not in (await self._described())["paths"]:
            return error_response(NotFound.path(path))
        return json_response({"signature": self._signer.sign(path).decode()})
