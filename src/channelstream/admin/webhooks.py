"""The page of webhooks: how each receiver does, and what was given up, which an admin can have sent again."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from channelstream import logs
from channelstream.admin.receivers import LETTERS, Receivers
from channelstream.errors import Malformed
from channelstream.pages.act import Did, Record, act_of
from channelstream.pages.caller import caller_of
from channelstream.pages.html import Renderer, json_response
from channelstream.pages.row import PageRight, Row, to_sign_in_or_401

BODY_BYTES = 65_536
"""Longest body; more than `LETTERS` ids take."""


class _Again(Struct, forbid_unknown_fields=True):
    """Which dead letters are sent again, by their ids."""

    ids: Annotated[list[Annotated[str, Meta(max_length=64)]], Meta(max_length=LETTERS)]


_again = msgspec.json.Decoder(_Again)


class WebhooksPage:
    """`/admin/webhooks`, its data, and what can be done there."""

    def __init__(self, renderer: Renderer, receivers: Receivers, record: Record) -> None:
        self._renderer = renderer
        self._receivers = receivers
        self._record = record

    def rows(self) -> list[Row]:
        look = PageRight.LOOK
        return [
            Row("/admin/webhooks", self._page, look),
            Row("/admin/data/webhooks", self._data, look, refuse=to_sign_in_or_401),
            Row(
                "/admin/do/send_webhooks_again",
                self._send_again,
                PageRight.CHANGE,
                ("POST",),
                refuse=to_sign_in_or_401,
                max_body_bytes=BODY_BYTES,
            ),
        ]

    async def _page(self, request: Request) -> Response:
        return await self._renderer.page(request, "admin_webhooks.html", {"here": "webhooks"})

    async def _data(self, request: Request) -> Response:
        return json_response(await self._receivers.read())

    async def _send_again(self, request: Request) -> Response:
        try:
            ids = _again.decode(await request.body()).ids
        except msgspec.MsgspecError as error:
            raise Malformed(f'Send {{"ids": [...]}} with at most {LETTERS} ids of dead letters.') from error
        sent: dict[str, Any] = await self._receivers.send_again(frozenset(ids))
        for label, count in sent.items():
            more = logs.counted(count, "event")
            self._record(act_of(caller_of(request), Did.SENT_WEBHOOKS, "receiver", label, more))
        return json_response({"sent": sum(sent.values())})
