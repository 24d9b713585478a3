"""A small chat in Pyramid: it signs users in, and publishes their messages by the push server."""

import os
import secrets
from pathlib import Path
from typing import Any
from wsgiref.simple_server import make_server

from pyramid.config import Configurator
from pyramid.httpexceptions import HTTPUnauthorized
from pyramid.request import Request
from pyramid.response import FileResponse
from pyramid.session import SignedCookieSessionFactory

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
    "/": "examples/page/index.html",
    "/page.js": "examples/page/page.js",
    "/channelstream.js": "clients/js/channelstream.js",
}
CHAT = {"chat": ChannelSettings(notify_presence=True, store_history=True, history_size=20)}

server = Channelstream(URL, os.environ.get("CHANNELSTREAM_SECRET", "secret"))


def file(request: Request) -> FileResponse:
    return FileResponse(str(ROOT / FILES[request.path]), request)


def sign_in(request: Request) -> dict[str, str]:
    request.session["name"] = str(request.json_body["name"])
    return {"url": URL}


def connection(request: Request) -> dict[str, Any]:
    # `since` is the last position of a page that lost its connection. Everybody may read the chat, so it may resume there.
    since = str(request.json_body.get("since") or "")
    made = server.connect(name(request), ["chat"], channel_configs=CHAT, since=since)
    return opened(made)


def opened(made: Connection) -> dict[str, Any]:
    """Return the page's initial data: its connection, earlier messages, and the users."""
    chat = made.channels_info.channels["chat"]
    history = [{"uuid": sent.uuid, "user": sent.user, "message": sent.message} for sent in chat.history]
    present = {"channels": {"chat": {"users": list(chat.users)}}}
    return {"conn_id": made.conn_id, "position": made.position, "history": history, "channels_info": present}


def say(request: Request) -> dict[str, str]:
    message = Message(user=name(request), channel="chat", message={"text": str(request.json_body["text"])})
    return {"uuid": server.publish(message).uuid}


def explained(error: Exception) -> str:
    return f"the push server {'cannot be reached' if isinstance(error, Unreachable) else 'refuses this'}: {error}"


def not_served(error: Exception, request: Request) -> dict[str, str]:
    request.response.status_int = 502
    return {"error": explained(error)}


def name(request: Request) -> str:
    if "name" not in request.session:
        raise HTTPUnauthorized
    return str(request.session["name"])


def application() -> Any:
    config = Configurator(session_factory=SignedCookieSessionFactory(secrets.token_hex(), httponly=True))
    for path in FILES:
        config.add_route(path, path)
        config.add_view(file, route_name=path)
    for path, view in {"/sign-in": sign_in, "/connection": connection, "/say": say}.items():
        config.add_route(path, path, request_method="POST")
        config.add_view(view, route_name=path, renderer="json")
    config.add_exception_view(not_served, context=ChannelstreamError, renderer="json")
    return config.make_wsgi_app()


if __name__ == "__main__":
    make_server("127.0.0.1", int(os.environ.get("PORT", "5000")), application()).serve_forever()
