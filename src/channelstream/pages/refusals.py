"""Errors of the pages, in the form of all errors (docs/api.md, "Errors")."""

from collections.abc import Callable, Mapping, Sequence

from starlette.requests import Request
from starlette.responses import Response

from channelstream.core.headers import Header
from channelstream.errors import ChannelstreamError, Internal, MethodNotAllowed, NotFound, TooLarge
from channelstream.http.asgi import App, Receive, Scope, Send
from channelstream.http.response import refusal
from channelstream.http.router import OnRefusal
from channelstream.pages.html import HEADERS

SIGN_IN = "Sign the request with the secret of the server or one of its keys, or sign in as the admin first."
FOREIGN = "This was sent from another site: send it from this server's own page."

_BY_STATUS: Mapping[int, Callable[[Scope], ChannelstreamError]] = {
    404: lambda scope: NotFound.path(scope["path"]),
    405: lambda scope: MethodNotAllowed(f"This page does not allow {scope['method']}: see the header Allow."),
    413: lambda _: TooLarge("Send a shorter body: the page accepts only its own short requests."),
    500: lambda _: Internal(),
}
"""The errors that Starlette answers as plain text."""


def error_response(error: ChannelstreamError, headers: Mapping[str, str] | None = None) -> Response:
    """Return the answer for an error, with the security headers. `headers` replace them, or are added."""
    answer = refusal(error)
    fields = {name.decode(): value.decode() for name, value in answer.fields()}
    # A name has no case: in two spellings the answer would have the field twice.
    merged = {
        name.lower(): value for part in (HEADERS, fields, headers or {}) for name, value in part.items()
    }
    return Response(answer.body, answer.status, merged)


def json_errors(app: App, cors: Callable[[Scope], Sequence[Header]], on_refusal: OnRefusal) -> App:
    """Return the application with its plain-text errors replaced by errors in JSON.

    Args:
        cors: returns the header fields that allow pages of other origins to read the answer to this request.
        on_refusal: called for each of these errors.
    """

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope, receive, _Replacing(scope, send, cors(scope), on_refusal))

    return serve


class _Replacing:
    """The `send` of one request. It replaces an error of `_BY_STATUS`, and drops the rest of its text."""

    def __init__(self, scope: Scope, send: Send, cors: Sequence[Header], on_refusal: OnRefusal) -> None:
        self._scope = scope
        self._send = send
        self._cors = cors
        self._on_refusal = on_refusal
        self._is_replaced = False

    async def __call__(self, message: Scope) -> None:
        if self._is_replaced:
            return
        if message["type"] == "http.response.start" and _is_text(message) and message["status"] in _BY_STATUS:
            self._is_replaced = True
            error = _BY_STATUS[message["status"]](self._scope)
            self._on_refusal(self._scope["method"], "", error, self._scope["client"][0])
            allowed = [field for field in message["headers"] if field[0] == b"allow"]
            answer = refusal(error, [*self._cors, *allowed])
            await self._send({**message, "status": answer.status, "headers": answer.fields()})
            message = {"type": "http.response.body", "body": answer.body}
        await self._send(message)


def _is_text(start: Scope) -> bool:
    return any(
        name == b"content-type" and value.startswith(b"text/plain") for name, value in start["headers"]
    )


def refuse_page(error: ChannelstreamError) -> Callable[[Request], Response]:
    """Return a function that answers every request with this error."""
    return lambda _: error_response(error)
