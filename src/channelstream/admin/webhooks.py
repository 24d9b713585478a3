"""The page of webhooks: how each receiver does, and what was given up, which an admin can have sent again."""

from collections.abc import Mapping
from typing import Annotated

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


class _Refused(Struct, forbid_unknown_fields=True):
    """Which receiver's refused events are given up, by its id."""

    receiver: Annotated[str, Meta(max_length=64)]


_again = msgspec.json.Decoder(_Again)
_refused = msgspec.json.Decoder(_Refused)


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
            Row(
                "/admin/do/give_up_webhooks",
                self._give_up,
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
        sent = await self._receivers.send_again(frozenset(ids))
        self._record_all(request, Did.SENT_WEBHOOKS, sent)
        return json_response({"sent": sum(sent.values())})

    async def _give_up(self, request: Request) -> Response:
        try:
            receiver = _refused.decode(await request.body()).receiver
        except msgspec.MsgspecError as error:
            raise Malformed('Send {"receiver": "..."} with the id of a receiver.') from error
        given_up = await self._receivers.give_up_refused(receiver)
        self._record_all(request, Did.GAVE_UP_WEBHOOKS, given_up)
        return json_response({"given_up": sum(given_up.values())})

    def _record_all(self, request: Request, did: Did, counts: Mapping[str, int]) -> None:
        for label, count in counts.items():
            more = logs.counted(count, "event")
            self._record(act_of(caller_of(request), did, "receiver", label, more))
