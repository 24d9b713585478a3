"""A small chat in Django, in one file: it signs users in, and publishes their messages by the push server."""

import json
import os
import secrets
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.core.management import execute_from_command_line
from django.core.wsgi import get_wsgi_application
from django.http import FileResponse, HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.csrf import ensure_csrf_cookie

from channelstream_client import (
    ChannelSettings,
    Channelstream,
    ChannelstreamError,
    Connection,
    Message,
    Unreachable,
)

ROOT = Path(__file__).parents[2]
URL = os.environ.get("CHANNELSTREAM_URL", "http://127.0.0.1:8000")
FILES = {
    "": "examples/page/index.html",
    "page.js": "examples/page/page.js",
    "channelstream.js": "clients/js/channelstream.js",
}
CHAT = {"chat": ChannelSettings(notify_presence=True, store_history=True, history_size=20)}

settings.configure(
    ROOT_URLCONF=__name__,
    SECRET_KEY=secrets.token_hex(),
    ALLOWED_HOSTS=["127.0.0.1", "localhost"],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        f"{__name__}.NotServed",
    ],
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
    SESSION_COOKIE_SAMESITE="Strict",
)
server = Channelstream(URL, os.environ.get("CHANNELSTREAM_SECRET", "secret"))


def explained(error: Exception) -> str:
    return f"the push server {'cannot be reached' if isinstance(error, Unreachable) else 'refuses this'}: {error}"


class NotServed:
    """Middleware that reports errors of the push server to the page."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self._get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> JsonResponse | None:
        if not isinstance(error, ChannelstreamError):
            return None
        return JsonResponse({"error": explained(error)}, status=502)


@ensure_csrf_cookie  # page.js sends the token of the cookie with every POST
def file(request: HttpRequest) -> FileResponse:
    return FileResponse((ROOT / FILES[request.path.lstrip("/")]).open("rb"))


def sign_in(request: HttpRequest) -> JsonResponse:
    request.session["name"] = str(json.loads(request.body)["name"])
    return JsonResponse({"url": URL})


def connection(request: HttpRequest) -> JsonResponse:
    # `since` is the last position of a page that lost its connection. Everybody may read the chat, so it may resume there.
    since = str(json.loads(request.body).get("since") or "")
    made = server.connect(name(request), ["chat"], channel_configs=CHAT, since=since)
    return JsonResponse(opened(made))


def opened(made: Connection) -> dict[str, Any]:
    """Return the page's initial data: its connection, earlier messages, and the users."""
    chat = made.channels_info.channels["chat"]
    history = [{"uuid": sent.uuid, "user": sent.user, "message": sent.message} for sent in chat.history]
    present = {"channels": {"chat": {"users": list(chat.users)}}}
    return {"conn_id": made.conn_id, "position": made.position, "history": history, "channels_info": present}


def say(request: HttpRequest) -> JsonResponse:
    text = str(json.loads(request.body)["text"])
    sent = server.publish(Message(user=name(request), channel="chat", message={"text": text}))
    return JsonResponse({"uuid": sent.uuid})


def name(request: HttpRequest) -> str:
    if "name" not in request.session:
        raise PermissionDenied
    return str(request.session["name"])


urlpatterns = [
    *(path(name, file) for name in FILES),
    path("sign-in", sign_in),
    path("connection", connection),
    path("say", say),
]
application = get_wsgi_application()

if __name__ == "__main__":
    address = f"127.0.0.1:{os.environ.get('PORT', '5000')}"
    execute_from_command_line([sys.argv[0], "runserver", "--noreload", address])
