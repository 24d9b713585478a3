"""Sign-in and sign-out of the admin, with a form and a cookie."""

import re
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from channelstream.errors import Forbidden, TooManyRequests
from channelstream.pages.access import Gate, address_of
from channelstream.pages.act import Act, Did, Record, act_of
from channelstream.pages.form import read_form
from channelstream.pages.html import Renderer, redirect
from channelstream.pages.origin import is_same_origin
from channelstream.pages.row import HOME, NEXT

FORM_BYTES = 4096
PAGE = re.compile(r"/(?:admin(?:/(?!sign_)\w+)*(?:\.json)?|api-explorer|metrics)(?:\?.*)?", re.ASCII)
"""What a sign-in may lead to: nothing but what it opens. Dots as segments of a path would lead anywhere on the host."""
PAGE_CHARS = 1000
"""Longest path and query that a sign-in leads to: urlencoded they fit into a form."""
WRONG = "User name or password is wrong."
ENDED = "Your session has ended. Please sign in again."
ENDED_MARK = "ended"
"""The parameter with which a page says that it was open when its session ended."""
NAME_CHARACTERS = 512
"""Longest user name that the form keeps after a wrong password."""
FOREIGN = "This form was sent from another site. Please sign in here."


class SignIn:
    """`/admin/sign_in` and `/admin/sign_out`."""

    def __init__(self, gate: Gate, renderer: Renderer, record: Record) -> None:
        self._gate = gate
        self._record = record
        self._renderer = renderer

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/admin/sign_in", self._form, methods=["GET"]),
            Route("/admin/sign_in", self._sign_in, methods=["POST"], max_body_size=FORM_BYTES),
            Route("/admin/sign_out", self._sign_out, methods=["GET", "POST"], max_body_size=FORM_BYTES),
        ]

    async def _form(self, request: Request) -> Response:
        wanted = _page(request.query_params.get(NEXT, ""))
        if self._gate.signed_in(request):
            return redirect(request, wanted)
        has_ended = ENDED_MARK in request.query_params or self._gate.had_ticket(request)
        return await self._show(request, wanted, ENDED if has_ended else "")

    async def _sign_in(self, request: Request) -> Response:
        if not is_same_origin(request):
            return await self._show(request, HOME, FOREIGN, status=403)
        fields = read_form(await request.body())
        wanted, name = _page(fields.get(NEXT, "")), fields.get("username", "")
        try:
            account = await self._gate.sign_in(request, name, fields.get("password", ""))
        except TooManyRequests as error:
            headers = {"Retry-After": str(error.retry_after_s)}
            return await self._show(request, wanted, error.message, name, status=429, headers=headers)
        except Forbidden as error:
            return await self._show(request, wanted, error.message, name, status=403)
        if account is None:
            return await self._show(request, wanted, WRONG, name)
        self._record(Act(account.user, address_of(request), Did.SIGNED_IN))
        response = redirect(request, wanted)
        self._gate.set_ticket(request, response, account)
        return response

    async def _sign_out(self, request: Request) -> Response:
        """Delete the cookie. A GET does so too, as in 0.7; it does no harm."""
        caller = self._gate.signed_in(request)
        if caller is not None:
            self._record(act_of(caller, Did.SIGNED_OUT))
        response = redirect(request, "/admin/sign_in")
        self._gate.clear_ticket(request, response)
        return response

    async def _show(
        self,
        request: Request,
        wanted: str,
        fault: str,
        name: str = "",
        status: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Show the form, which leads to the page `wanted`, with the name that was typed."""
        context = {"fault": fault, "wanted": wanted, "name": name[:NAME_CHARACTERS]}
        return await self._renderer.page(request, "sign_in.html", context, status=status, headers=headers)


def _page(wanted: str) -> str:
    """Return the page that was asked for, or the first one if a sign-in does not open it."""
    return wanted if len(wanted) <= PAGE_CHARS and PAGE.fullmatch(wanted) else HOME
