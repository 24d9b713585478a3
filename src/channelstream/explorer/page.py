"""The API explorer: Swagger UI with the server's OpenAPI document. The server signs its calls."""

import asyncio
import re
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from channelstream.call_signing import CallSigner
from channelstream.errors import Forbidden, Malformed, NotFound
from channelstream.pages.act import Did, Record, act_of
from channelstream.pages.caller import caller_of
from channelstream.pages.html import CONTENT_SECURITY_POLICY, Renderer, json_response, root
from channelstream.pages.refusals import SIGN_IN, refuse_page
from channelstream.pages.row import PageRight, Row

SIGN_BYTES = 262_144
"""Longest request that is signed, with its body."""
FROM_PAGE = "Sign in first, and send this from the explorer's own page."
_PARAMETER = re.compile(r"\{\w+\}")
# Swagger UI's style sheet contains its icons as data: images.
EXPLORER_POLICY = {"Content-Security-Policy": CONTENT_SECURITY_POLICY + "; img-src 'self' data:"}


class _Call(msgspec.Struct):
    """A call to sign.

    Attributes:
        query: with its question mark; empty if there is none.
    """

    path: str = ""
    method: str = "POST"
    query: str = ""
    body: str = ""


class Explorer:
    """`/api-explorer`, `/openapi.json` and `/admin/sign`, which signs the explorer's calls.

    Args:
        openapi: returns the OpenAPI document; called in a thread.
        signer: has the API's secret, which never leaves the server; only signatures of single calls do.
    """

    def __init__(
        self, renderer: Renderer, openapi: Callable[[], dict[str, Any]], signer: CallSigner, record: Record
    ) -> None:
        self._record = record
        self._renderer = renderer
        self._openapi = openapi
        self._signer = signer

    def rows(self) -> list[Row]:
        look, change = PageRight.LOOK, PageRight.CHANGE
        refuse = refuse_page(Forbidden(FROM_PAGE))
        return [
            Row("/api-explorer", self._page, look),
            Row("/openapi.json", self._document, look, refuse=refuse_page(Forbidden(SIGN_IN))),
            Row("/admin/sign", self._sign, change, ("POST",), refuse=refuse, max_body_bytes=SIGN_BYTES),
        ]

    async def _page(self, request: Request) -> Response:
        return await self._renderer.page(request, "explorer.html", headers=EXPLORER_POLICY)

    async def _document(self, request: Request) -> Response:
        return json_response({**await self._described(), "servers": [{"url": root(request) or "/"}]})

    async def _described(self) -> dict[str, Any]:
        """Return the OpenAPI document; in a thread, since building it takes the time of several loop turns."""
        return await asyncio.to_thread(self._openapi)

    async def _sign(self, request: Request) -> Response:
        """Sign one call of the API for the signed-in admin's own page: its method, path, query and body."""
        if not caller_of(request).has_ticket:
            raise Forbidden(FROM_PAGE)
        try:
            call = msgspec.json.decode(await request.body(), type=_Call)
        except (msgspec.DecodeError, RecursionError) as error:
            raise Malformed("Send a JSON object with a path, and with method, query and body.") from error
        path = call.path
        if not _is_among(path, (await self._described())["paths"]):
            raise NotFound.path(path)
        self._record(act_of(caller_of(request), Did.SIGNED_CALL, "path", path))
        return json_response(
            {"headers": self._signer.headers(call.method, path + call.query, call.body.encode())}
        )


def _is_among(path: str, paths: Iterable[str]) -> bool:
    """Return whether a path, as it is sent, is one of the document; a parameter there stands for one segment."""
    return any(re.fullmatch("[^/?#]+".join(map(re.escape, _PARAMETER.split(each))), path) for each in paths)
