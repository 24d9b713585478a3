"""Validates untrusted input of the demo. A refusal has a text that the page can show."""

import re
import unicodedata
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from channelstream.pages.origin import is_same_origin

CHANNELS = ("demo-general", "demo-random", "demo-help")
"""The channels that visitors can use. They have no access to channels of other applications on this server."""
STATUSES = ("available", "away", "busy")
NAME_CHARACTERS = 32
TEXT_CHARACTERS = 2000
BODY_BYTES = 16 * 1024

_JOINED = re.compile(r"(?<=[^\x00-\x7f\u200c\u200d])[\u200c\u200d]")
"""A joiner after a character that may need one: Persian, Indic scripts and emoji are written with them."""

Body = dict[str, Any]
# Without it msgspec takes 20 µs for a number of 1e289 and more.
_decode = msgspec.json.Decoder(Body, float_hook=float).decode
Endpoint = Callable[[Request], Awaitable[Response]]


CODES = {
    400: "malformed",
    401: "unauthenticated",
    403: "forbidden",
    409: "conflict",
    422: "invalid",
    502: "push_server_refused",
}
"""The error code of each status, in the form of the push server's errors."""


class Refused(Exception):
    """The visitor may not do that. The page shows the text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


def answered(path: str, endpoint: Endpoint, method: str = "POST") -> Route:
    """Return a route that answers refusals of this application and of the push server as JSON."""

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except Refused as refusal:
            return _refusal(refusal.text, refusal.status)

    return Route(path, answer, methods=[method], max_body_size=BODY_BYTES)


def _refusal(text: str, status: int) -> Response:
    return JSONResponse({"error": text, "code": CODES[status]}, status)


async def read_json(request: Request) -> Body:
    """Return the body of a JSON request from the demo's own page. Other sites cannot make a browser send such a request."""
    content_type = request.headers.get("content-type", "").partition(";")[0].strip()
    if content_type != "application/json" or not is_same_origin(request):
        raise Refused(403, "Requests come from the demo's own page.")
    try:
        return _decode(await request.body())
    except (msgspec.DecodeError, RecursionError):
        raise Refused(400, "The body is not a JSON object.") from None


def read_channels(value: Any) -> list[str]:
    if not isinstance(value, list | tuple) or not value or any(name not in CHANNELS for name in value):
        raise Refused(422, f"Channels are {', '.join(CHANNELS)}.")
    return list(value)


def read_name(value: Any) -> str:
    """Return a name: visible, short, and normalized (Unicode NFKC), so that fewer names look alike."""
    name = unicodedata.normalize("NFKC", value).strip() if isinstance(value, str) else ""
    if not (0 < len(name) <= NAME_CHARACTERS and _JOINED.sub("", name).isprintable()):
        raise Refused(422, f"A name has 1 to {NAME_CHARACTERS} visible characters.")
    return name


def read_text(value: Any) -> str:
    text = value.strip() if isinstance(value, str) else ""
    if not 0 < len(text) <= TEXT_CHARACTERS:
        raise Refused(422, f"A message has 1 to {TEXT_CHARACTERS} characters.")
    return text


def read_position(value: Any) -> str:
    """Return the page's last position. The push server checks it: any text is accepted there."""
    return value if isinstance(value, str) else ""


def read_status(value: Any) -> str:
    if value not in STATUSES:
        raise Refused(422, f"A status is one of {', '.join(STATUSES)}.")
    return str(value)
